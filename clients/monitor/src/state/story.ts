// What the connection went through, for people to read.

export interface Resumed {
  topic: string;
  events: number;
}

export type Chapter =
  | { kind: 'connected'; atMs: number; server: string }
  | { kind: 'lost'; atMs: number; code: number; reason: string }
  | { kind: 'back'; atMs: number; afterMs: number; resumed: Resumed[] }
  | { kind: 'gap'; atMs: number; topic: string }
  | { kind: 'draining'; atMs: number }
  | { kind: 'asked'; atMs: number; refused: boolean }
  | { kind: 'ended'; atMs: number; reason: string };

const CHAPTERS_MOST = 50;

const CODES: Record<number, string> = {
  1000: 'closed',
  1001: 'the server is going away',
  1006: 'gone without a word',
  1011: 'a defect in the server',
  1012: 'the server is restarting',
  1013: 'this page read too slowly, or the server is full',
  4401: 'not authenticated',
  4403: 'not allowed',
  4408: 'no sign of life',
  4429: 'too many messages',
};

export class Story {
  chapters: readonly Chapter[] = [];
  private lostAtMs: number | null = null;

  connected(atMs: number, server: string): void {
    if (this.lostAtMs === null) this.add({ kind: 'connected', atMs, server });
    // The clock may have been set back meanwhile.
    else this.add({ kind: 'back', atMs, afterMs: Math.max(0, atMs - this.lostAtMs), resumed: [] });
    this.lostAtMs = null;
  }

  /** A connection broke, or an attempt to get it back failed, which is no news. */
  lost(atMs: number, code: number, reason: string): void {
    if (this.lostAtMs !== null) return;
    this.lostAtMs = atMs;
    this.add({ kind: 'lost', atMs, code, reason });
  }

  resumed(topic: string, events: number): void {
    const index = this.chapters.findLastIndex((chapter) => chapter.kind === 'back');
    const back = this.chapters[index];
    if (back?.kind !== 'back') return;
    const resumed = [...back.resumed.filter((one) => one.topic !== topic), { topic, events }];
    this.chapters = this.chapters.with(index, { ...back, resumed });
  }

  gap(atMs: number, topic: string): void {
    this.add({ kind: 'gap', atMs, topic });
  }

  draining(atMs: number): void {
    this.add({ kind: 'draining', atMs });
  }

  asked(atMs: number, refused: boolean): void {
    this.add({ kind: 'asked', atMs, refused });
  }

  ended(atMs: number, reason: string): void {
    this.lostAtMs ??= atMs;
    this.add({ kind: 'ended', atMs, reason });
  }

  private add(chapter: Chapter): void {
    this.chapters = [...this.chapters, chapter].slice(-CHAPTERS_MOST);
  }
}

/** A chapter as a sentence. */
export function sentenceOf(chapter: Chapter): string {
  switch (chapter.kind) {
    case 'connected':
      return `connected to ${chapter.server}`;
    case 'lost':
      return `connection lost: ${limitOf(chapter.reason) ?? CODES[chapter.code] ?? (chapter.reason || `code ${chapter.code}`)}`;
    case 'back':
      return `back after ${secondsOf(chapter.afterMs)} · ${resumedOf(chapter.resumed)}`;
    case 'gap':
      return `gap on ${chapter.topic}: its state was fetched anew`;
    case 'draining':
      return 'the server is about to stop';
    case 'asked':
      return chapter.refused ? 'the server refused the token' : 'the server asks for a token';
    case 'ended':
      return `ended: ${chapter.reason}`;
  }
}

/** What the server said where this is too much for it: too many connections of one subject, for instance. */
const limitOf = (reason: string): string | undefined => /^rate_limited: (.*)/.exec(reason)?.[1];

function resumedOf(resumed: readonly Resumed[]): string {
  if (resumed.length === 0) return 'resuming';
  const brought = resumed.filter((one) => one.events > 0);
  if (brought.length === 0) return 'resumed, nothing was missed';
  return `resumed ${brought.map((one) => `${one.events} ${one.events === 1 ? 'event' : 'events'} on ${one.topic}`).join(', ')}`;
}

export function secondsOf(ms: number): string {
  return ms < 60_000
    ? `${(ms / 1000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
