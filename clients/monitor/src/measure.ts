// What measurements and end-to-end tests may read of the page: `window.ngosMonitor`, in every build. Read-only.
//
//   state        the connection's state, as the client names it
//   tokens       how many tokens the page holds
//   edges        how many edges it holds
//   loaded       whether all that was there when it connected has been read
//   events       how many events came since the page was opened
//   positions    topic -> {epoch, seq} of the last event that was seen, or null
//   places()     x, y per token slot at the chosen level; NaN: an empty slot
//   screenOf(id) where a token is, in CSS pixels from the picture's corner, or null
//   frames()     milliseconds between frames that followed each other, the last 1,200, oldest first
import type { Picture } from './picture/picture';
import { type Monitor, OWN_TOPICS } from './state/monitor';

export interface Measure {
  readonly state: string;
  readonly tokens: number;
  readonly edges: number;
  readonly loaded: boolean;
  readonly events: number;
  readonly positions: Record<string, { epoch: string; seq: number } | null>;
  places(): Float32Array;
  screenOf(id: string): { x: number; y: number } | null;
  frames(): number[];
}

declare global {
  interface Window {
    ngosMonitor?: Measure;
  }
}

export function offer(monitor: Monitor, picture: () => Picture | null): void {
  window.ngosMonitor = Object.freeze({
    get state() {
      return monitor.ws.state;
    },
    get tokens() {
      return monitor.tokens.count;
    },
    get edges() {
      return monitor.edges.count;
    },
    get loaded() {
      return monitor.load.loading.tokens === 'done' && monitor.load.loading.edges === 'done';
    },
    get events() {
      return monitor.stream.total;
    },
    get positions() {
      return Object.fromEntries(OWN_TOPICS.map((topic) => [topic, monitor.ws.position(topic)]));
    },
    places: () => picture()?.places.positions() ?? new Float32Array(),
    screenOf: (id: string) => picture()?.screenOf(id) ?? null,
    frames: () => picture()?.pace.frames() ?? [],
  });
}
