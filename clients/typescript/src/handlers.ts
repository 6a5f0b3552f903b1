/** Who hears what: functions by name. A handler may call anything, its own `off` included; what it throws is reported. */

interface Registration<Value> {
  readonly handler: (value: Value) => void;
  active: boolean;
}

/** Handlers of one kind of values, by name. */
export class Handlers<Value> {
  // The lists are replaced, never changed: they may be walked through while somebody comes or goes.
  readonly #lists = new Map<string, readonly Registration<Value>[]>();

  /** Register; the same handler twice is called twice. Returns its own end. Throws TypeError: the caller's fault. */
  on(name: string, handler: (value: Value) => void): () => void {
    if (typeof handler !== 'function') throw new TypeError('a handler is a function');
    const registration = { handler, active: true };
    this.#lists.set(name, [...(this.#lists.get(name) ?? []), registration]);
    return () => this.#remove(name, registration);
  }

  /** End the latest registration of this handler, if there is one. */
  off(name: string, handler: (value: Value) => void): void {
    const registration = this.#lists.get(name)?.findLast((other) => other.handler === handler);
    if (registration !== undefined) this.#remove(name, registration);
  }

  call(name: string, value: Value): void {
    const list = this.#lists.get(name);
    if (list === undefined) return;
    for (const registration of list) {
      if (!registration.active) continue;
      callGuarded(registration.handler, value);
    }
  }

  #remove(name: string, registration: Registration<Value>): void {
    registration.active = false;
    const rest = (this.#lists.get(name) ?? []).filter((other) => other !== registration);
    if (rest.length > 0) this.#lists.set(name, rest);
    else this.#lists.delete(name);
  }
}

/** Call what is the program's own: what it throws, or its promise rejects with, is reported and harms nobody here. */
export function callGuarded<Value>(handler: (value: Value) => unknown, value: Value): void {
  try {
    const outcome = handler(value);
    if (outcome instanceof Promise) outcome.catch(report);
  } catch (error) {
    report(error);
  }
}

/** Tell of a defect in a handler as the platform tells of uncaught errors, without ending a Node process. */
function report(error: unknown): void {
  if (typeof reportError === 'function') reportError(error);
  else console.error(error);
}
