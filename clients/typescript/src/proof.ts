/** Who this client says that it is, over all its connections: the token of the command `authenticate`. No I/O. */

import type { Outcome } from './requests.js';

/** The token that is shown to each connection first, and the one that was refused. */
export class Proof {
  /** Null: nothing is shown. */
  token: string | null = null;
  /** What the program's own `authenticate` was accepted with last: it takes the place of the option. */
  accepted: string | null = null;
  /** What was shown last when the server did not, or no longer, know who this is. */
  #refused: string | null | undefined;

  /** A refusal of before counts no more. */
  begin(): void {
    this.#refused = undefined;
  }

  /** Show this one on the next connection. False: it was refused already. */
  show(token: string | null): boolean {
    this.token = token;
    return token !== this.#refused;
  }

  /** The server did not, or no longer, take what was shown: the option counts again, which may have another by now. */
  refuse(): void {
    this.#refused = this.token;
    if (this.accepted === this.token) this.accepted = null;
  }

  /** Keep the token of this `authenticate` where it is accepted: later connections are nobody's until they saw it too. */
  keeping(payload: object, done: (outcome: Outcome) => void): (outcome: Outcome) => void {
    const { token } = payload as { token?: unknown };
    return (outcome) => {
      if (typeof token === 'string' && !(outcome instanceof Error) && outcome.type === 'authenticated') {
        this.token = this.accepted = token;
      }
      done(outcome);
    };
  }
}
