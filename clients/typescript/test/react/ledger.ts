/** What the package has open: its timers, and its listeners on the window. Kept by counting from outside. */

const OURS = /\/typescript\/(src|dist)\//;

interface Ledger {
  /** Timers that neither ran nor were cleared. */
  readonly timers: ReadonlySet<unknown>;
  /** Listeners on the window and the document that were not removed. */
  readonly listeners: ReadonlySet<string>;
  restore(): void;
}

/** Count from now on; only what is asked for by code of this package. */
export function openLedger(): Ledger {
  const timers = new Set<unknown>();
  const listeners = new Set<string>();
  const undo: (() => void)[] = [];

  for (const [start, stop, once] of [
    ['setTimeout', 'clearTimeout', true],
    ['setInterval', 'clearInterval', false],
  ] as const) {
    const real = { start: globalThis[start], stop: globalThis[stop] };
    const counted = (callback: (...given: unknown[]) => void, ms?: number, ...given: unknown[]) => {
      const timer: unknown = real.start(() => {
        if (once) timers.delete(timer);
        callback(...given);
      }, ms);
      if (isOurs()) timers.add(timer);
      return timer;
    };
    const forgotten = (timer: unknown) => {
      timers.delete(timer);
      real.stop(timer as number);
    };
    Object.assign(globalThis, { [start]: counted, [stop]: forgotten });
    undo.push(() => Object.assign(globalThis, { [start]: real.start, [stop]: real.stop }));
  }

  for (const target of [globalThis as unknown as EventTarget, document]) {
    const real = { add: target.addEventListener, remove: target.removeEventListener };
    const numbers = new Map<unknown, number>();
    const name = (type: string, listener: unknown) => {
      if (!numbers.has(listener)) numbers.set(listener, numbers.size);
      return `${target === document ? 'document' : 'window'} ${type} ${numbers.get(listener)}`;
    };
    target.addEventListener = function (this: EventTarget, type: string, listener: EventListener, options?: object) {
      if (isOurs()) listeners.add(name(type, listener));
      real.add.call(target, type, listener, options);
    } as EventTarget['addEventListener'];
    target.removeEventListener = function (this: EventTarget, type: string, listener: EventListener) {
      listeners.delete(name(type, listener));
      real.remove.call(target, type, listener);
    } as EventTarget['removeEventListener'];
    undo.push(() => Object.assign(target, { addEventListener: real.add, removeEventListener: real.remove }));
  }

  return {
    timers,
    listeners,
    restore() {
      for (const step of undo) step();
    },
  };
}

function isOurs(): boolean {
  return OURS.test(new Error().stack ?? '');
}

/** Handlers and holds of clients, counted on their class. */
interface Count {
  /** That were added, ever. */
  readonly added: number;
  /** That were added and not removed. */
  readonly open: number;
  restore(): void;
}

export function countHandlers(prototype: object): Count {
  const target = prototype as Record<'on' | 'onEvent' | 'off' | 'hold', (...given: unknown[]) => unknown>;
  const real = { on: target.on, onEvent: target.onEvent, off: target.off, hold: target.hold };
  let open = 0;
  let added = 0;
  for (const name of ['on', 'onEvent', 'hold'] as const) {
    target[name] = function (this: unknown, ...given: unknown[]) {
      const off = real[name].apply(this, given) as () => void;
      open += 1;
      added += 1;
      let isOff = false;
      return () => {
        if (!isOff) open -= 1;
        isOff = true;
        off();
      };
    };
  }
  return {
    get added() {
      return added;
    },
    get open() {
      return open;
    },
    restore: () => Object.assign(target, real),
  };
}
