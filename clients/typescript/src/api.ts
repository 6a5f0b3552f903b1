/** Every command of protocol.md section 3 as a method, with typed arguments and a typed answer. */

import { quiet } from './deferred.js';
import type { MessageEnvelope, ReplyEnvelope } from './envelope.js';
import { NotFound } from './errors.js';
import type { CommandName } from './names.js';
import type * as p from './protocol.js';

/** What every method takes besides its own arguments. */
export interface RequestOptions {
  /**
   * Names the command for idempotency (protocol.md section 6), for programs that send again by themselves: after
   * RequestTimeout, or after their own restart with the same `clientId`. Default: a new one.
   */
  id?: string | undefined;
  /** Default: the client's `requestTimeoutMs`. */
  timeoutMs?: number | undefined;
  /** Stops waiting; what was sent may take effect or not. Rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

type Fields<Command extends CommandName, Given extends string = never> = Omit<p.Commands[Command], Given>;

/**
 * The commands. All reject as `request` does: CommandError, ConnectionLost, RequestTimeout, RequestTooBig, QueueFull; and
 * a rejection that nobody looks at ends no process.
 */
export abstract class Api {
  abstract request<Command extends CommandName>(
    type: Command,
    payload: p.Commands[Command],
    options?: RequestOptions,
  ): Promise<ReplyEnvelope<Command>>;

  /**
   * Prove who this is, from here on and on later connections: what the header `Authorization` can't do for browsers. It
   * takes the place of the option `token`.
   */
  authenticate(token: string): Promise<p.Authenticated> {
    return this.#ask('authenticate', { token }, payloadOf);
  }

  /** Send an event to a custom topic; on the server's own: CommandError `forbidden`. On an ephemeral one it may come twice. */
  publish(topic: string, type: string, payload: p.JsonObject = {}): Promise<p.Published> {
    return this.#ask('publish', { topic, type, payload }, payloadOf);
  }

  /** Create a token. A `token_id` that exists already is CommandError `conflict`. */
  createToken(fields: Fields<'token.create'> = {}): Promise<p.Token> {
    return this.#ask('token.create', fields, payloadOf);
  }

  /** A token, or null where there is no such. */
  getToken(id: string): Promise<p.Token | null> {
    return this.#ask('token.get', { token_id: id }, (reply) => (reply.type === 'token.data' ? reply.payload : null));
  }

  /** A page of tokens, newest first; `next` is the `after` of the next, `position` what to subscribe `since`. */
  listTokens(options: Fields<'token.list'> = {}): Promise<p.TokenListed> {
    return this.#ask('token.list', options, payloadOf);
  }

  /** Change the fields that are given. Rejects with NotFound; CommandError `conflict` where `if_version` is not its. */
  updateToken(id: string, fields: Fields<'token.update', 'token_id'>): Promise<p.Token> {
    return this.#ask('token.update', { ...fields, token_id: id }, found);
  }

  /** Delete a token with its edges; false where there was none. */
  deleteToken(id: string): Promise<boolean> {
    return this.#ask('token.delete', { token_id: id }, (reply) => reply.type === 'token.deleted');
  }

  /** Connect two tokens. Rejects with NotFound; CommandError `conflict` where such an edge is there already. */
  connectTokens(
    source: string,
    target: string,
    options: Fields<'graph.connect', 'source_id' | 'target_id'> = {},
  ): Promise<p.Edge> {
    return this.#ask('graph.connect', { ...options, source_id: source, target_id: target }, found);
  }

  /** Remove an edge, named by its `connection_id` or by its ends; null where there was none. */
  disconnectTokens(options: Fields<'graph.disconnect'>): Promise<p.EdgeKey | null> {
    return this.#ask('graph.disconnect', options, (reply) =>
      reply.type === 'graph.disconnected' ? reply.payload : null,
    );
  }

  /** A token's edges, and where they lead. Rejects with NotFound. */
  getNeighbors(id: string, options: Fields<'graph.neighbors', 'token_id'> = {}): Promise<p.GraphNeighborsListed> {
    return this.#ask('graph.neighbors', { ...options, token_id: id }, found);
  }

  /** Count a token's edges. */
  getDegree(id: string): Promise<p.GraphDegreeCounted> {
    return this.#ask('graph.degree', { token_id: id }, payloadOf);
  }

  /** A shortest path of at most `max_depth` edges; its `path` is null where there is none. */
  findPath(
    source: string,
    target: string,
    options: Fields<'graph.path', 'source_id' | 'target_id'> = {},
  ): Promise<p.GraphPathFound> {
    return this.#ask('graph.path', { ...options, source_id: source, target_id: target }, payloadOf);
  }

  /** Record one step; within a trajectory it gets the next sequence number. */
  recordExperience(eventType: string, fields: Fields<'experience.record', 'event_type'> = {}): Promise<p.Experience> {
    return this.#ask('experience.record', { ...fields, event_type: eventType }, payloadOf);
  }

  /** A page of experiences; `next` is the `after` of the next. */
  listExperiences(options: Fields<'experience.list'> = {}): Promise<p.ExperienceListed> {
    return this.#ask('experience.list', options, payloadOf);
  }

  #ask<Command extends CommandName, Answer>(
    type: Command,
    payload: p.Commands[Command],
    read: (reply: ReplyEnvelope<Command>) => Answer,
  ): Promise<Answer> {
    return quiet(this.request(type, payload).then(read));
  }
}

const payloadOf = <Payload>(reply: { payload: Payload }): Payload => reply.payload;

/** The payload, or NotFound where it is `token.not_found`. */
function found<Found extends MessageEnvelope<'token.updated' | 'graph.connected' | 'graph.neighbors'>>(
  reply: Found | MessageEnvelope<'token.not_found'>,
): Found['payload'] {
  if (reply.type === 'token.not_found') throw new NotFound((reply.payload as p.TokenNotFound).token_id);
  return reply.payload;
}
