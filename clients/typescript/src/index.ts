/** The client of an ngos server: `createWebSocket(url)`. */

export type { RequestOptions } from './api.js';
export { createWebSocket, NeuroGraphWebSocket } from './client.js';
export type { Envelope, EventEnvelope, MessageEnvelope, ReplyEnvelope } from './envelope.js';
export {
  CommandError,
  ConnectFailed,
  ConnectionLost,
  GapError,
  type LogPosition,
  NgosError,
  NotFound,
  QueueFull,
  RequestTimeout,
  RequestTooBig,
  SlowSubscriber,
} from './errors.js';
export type { Events, EventsOptions } from './events.js';
export type { LifeEvents, State } from './life.js';
export type { BareCommand, CommandName, EventName, MessageName } from './names.js';
export type { Options } from './options.js';
export * from './protocol.js';
export type { SubscribeOptions } from './subscription.js';
