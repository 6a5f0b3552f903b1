// The token that this page shows. It is in the page's memory and, once a server took it, in the tab's session storage, so
// that it is there after a reload: in no address, and gone with the tab.

const KEY = 'ngos.token';

export class Keeper {
  token: string | null = null;

  constructor(private readonly storage: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> | null = sessionOfTab()) {
    this.token = this.storage?.getItem(KEY) ?? null;
  }

  /** Show this one from here on. */
  show(token: string): void {
    this.token = token;
  }

  /** The server took it. */
  keep(): void {
    if (this.token === null) return;
    try {
      this.storage?.setItem(KEY, this.token);
    } catch {
      // Where there is no room, it lasts as long as the page.
    }
  }

  clear(): void {
    this.token = null;
    this.storage?.removeItem(KEY);
  }
}

/** The token in what was pasted: without white space around it, and without the header's word. */
export function tokenIn(text: string): string {
  return text.trim().replace(/^bearer\s+/i, '');
}

function sessionOfTab(): Storage | null {
  try {
    return sessionStorage;
  } catch {
    return null; // it is forbidden here
  }
}
