/** The names on the wire, as types: of commands, of messages, of events. */

import type { Commands, Events, Messages } from './protocol.js';

export type CommandName = keyof Commands;
export type MessageName = keyof Messages;
export type EventName = keyof Events;

type HasRequired<Payload> = Record<string, never> extends Payload ? false : true;

/** The commands whose payload may be left out. */
export type BareCommand = {
  [Name in CommandName]: HasRequired<Commands[Name]> extends true ? never : Name;
}[CommandName];
