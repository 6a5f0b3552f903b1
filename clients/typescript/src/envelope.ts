/** The envelope around every message (protocol.md section 2), read from JSON and checked once. No I/O. */

import type { CommandName, EventName, MessageName } from './names.js';
import type { JsonObject, Messages, RepliesTo, Topics } from './protocol.js';

/** A message from the server. `timestamp` is the server's clock, Unix milliseconds. Fields that it lacks are absent. */
export interface Envelope<Type extends string = string, Payload = JsonObject> {
  id: string;
  type: Type;
  payload: Payload;
  timestamp: number;
  /** On replies and errors: the command's id. */
  reply_to?: string;
  /** On replies: the command had been done before; this is the reply that it had (section 6). */
  replayed?: boolean;
  /** On events: where it was published; absent only on an operator's broadcast to all connections. */
  topic?: string;
  /** On events of durable topics: 1, 2, 3 … within `epoch`. */
  seq?: number;
  epoch?: string;
  /** On events: the `client_id` whose command caused it. */
  sender_id?: string;
}

/** The envelope of the message `Type`: a union over types where `Type` is one. */
export type MessageEnvelope<Type extends string> = Type extends MessageName
  ? Envelope<Type, Messages[Type]>
  : Envelope<Type extends '*' ? string : Type>;

/** What `request` resolves with: one of the command's replies; tell them apart by `type`. */
export type ReplyEnvelope<Command extends string> = Command extends CommandName
  ? MessageEnvelope<RepliesTo[Command]>
  : Envelope;

/** What comes on a topic: on the server's own a union by `type`, on custom ones anything. */
export type EventEnvelope<Topic extends string = string> = Topic extends keyof Topics
  ? MessageEnvelope<Topics[Topic] & EventName>
  : Envelope;

/** What the server sent is not what the protocol says. */
export class Nonsense extends Error {}

/** Throws Nonsense that names `what` came, where it is not `so`. */
export function check(so: boolean, what: string): asserts so {
  if (!so) throw new Nonsense(`${what} is not what the protocol says`);
}

/** Read one message; unknown fields stay, null counts as absent. Throws Nonsense: the server's fault. */
export function parse(data: unknown): Envelope {
  check(typeof data === 'string', 'a binary message');
  let value: unknown;
  try {
    value = JSON.parse(data as string);
  } catch {
    throw new Nonsense('not JSON');
  }
  check(isObject(value), 'the message');
  const message = value as Record<keyof Envelope, unknown>;
  message.payload ??= {};
  check(typeof message.id === 'string', 'id');
  check(typeof message.type === 'string', 'type');
  check(typeof message.timestamp === 'number', 'timestamp');
  check(isObject(message.payload), 'payload');
  check(typeof (message.reply_to ?? '') === 'string', 'reply_to');
  check(typeof (message.topic ?? '') === 'string', 'topic');
  check(Number.isSafeInteger(message.seq ?? 0), 'seq');
  check(typeof (message.epoch ?? '') === 'string', 'epoch');
  return message as Envelope;
}

/** Whether a value is what JSON calls an object. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
