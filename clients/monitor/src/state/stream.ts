// The last events, newest last, and what of them a filter lets through.
import type { Event } from '../wire';
import { labelOf, plain } from './tokens';

export const STREAM_LENGTH = 1000;

export interface StreamEntry {
  /** Counts all events since the page began; never repeats. */
  number: number;
  topic: string;
  type: string;
  seq: number | null;
  atMs: number;
  sender: string;
  /** The token that it is about, where there is one; of an edge, its source. */
  tokenId: string | null;
  /** Of an edge, its target. */
  targetId: string | null;
  /** What it says beside the tokens' names. */
  brief: string;
  /** The token's name, where the event carries it. */
  name: string;
}

export interface StreamFilter {
  text: string;
  /** Topics that are not shown. */
  hidden: ReadonlySet<string>;
}

export class Stream {
  /** Grows by one with each event. */
  total = 0;
  private readonly ring: StreamEntry[] = [];

  add(event: Event): void {
    const number = this.total++;
    this.ring[number % STREAM_LENGTH] = entryOf(event, number);
  }

  /** All that is kept, newest first. */
  all(): StreamEntry[] {
    const next = this.total % STREAM_LENGTH;
    return [...this.ring.slice(next), ...this.ring.slice(0, next)].reverse();
  }

  /** What the filter lets through of `entries`, in their order. */
  entries(filter: StreamFilter, entries = this.all()): StreamEntry[] {
    const needle = filter.text.trim().toLowerCase();
    return entries.filter((entry) => passes(entry, needle, filter.hidden));
  }
}

function passes(entry: StreamEntry, needle: string, hidden: ReadonlySet<string>): boolean {
  return !hidden.has(entry.topic) && (needle === '' || haystackOf(entry).includes(needle));
}

/** All that the filter's text is looked for in; made when there is a text, not with each event. */
function haystackOf({ topic, type, sender, brief, tokenId, targetId, name }: StreamEntry): string {
  return `${topic} ${type} ${sender} ${brief} ${tokenId ?? ''} ${targetId ?? ''} ${name}`.toLowerCase();
}

function entryOf(event: Event, number: number): StreamEntry {
  const payload = event.payload as Record<string, unknown>;
  return {
    number,
    topic: event.topic,
    type: event.type,
    seq: event.seq ?? null,
    atMs: event.timestamp,
    sender: event.sender_id ?? '',
    tokenId: textOf(payload.token_id) || textOf(payload.source_id) || null,
    targetId: textOf(payload.target_id) || null,
    brief: plain(briefOf(event.type, payload)),
    name: nameOf(payload),
  };
}

/** What an event says, in a few words, beside the names of its tokens. */
export function briefOf(type: string, payload: Record<string, unknown>): string {
  switch (type) {
    case 'token.created':
    case 'token.updated':
      return `${textOf(payload.type)} · ${roundOf(payload.weight)} · v${roundOf(payload.version)}`;
    case 'token.deleted':
      return '';
    case 'graph.connected':
    case 'graph.disconnected':
      return textOf(payload.type);
    case 'experience.recorded':
      return `${textOf(payload.event_type)} · reward ${roundOf(payload.reward)}`;
    case 'system.status':
      return `${roundOf(payload.connections)} connections · ${roundOf(payload.events_per_s)} events/s`;
    default:
      return JSON.stringify(payload).slice(0, 160);
  }
}

/** A token's name, where the event carries it. */
function nameOf(payload: Record<string, unknown>): string {
  const { metadata } = payload;
  return typeof metadata === 'object' && metadata !== null
    ? labelOf({ metadata: metadata as Record<string, unknown> })
    : '';
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function roundOf(value: unknown): string {
  if (typeof value !== 'number') return '';
  // A number as large as they come has no thousandth.
  return String(Math.abs(value) < 1e9 ? Math.round(value * 1000) / 1000 : Number(value.toPrecision(4)));
}
