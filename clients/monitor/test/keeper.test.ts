import { expect, test } from 'vitest';
import { Keeper, tokenIn } from '../src/state/keeper';

class FakeStorage {
  readonly items = new Map<string, string>();
  full = false;
  getItem = (key: string) => this.items.get(key) ?? null;
  removeItem = (key: string) => void this.items.delete(key);
  setItem = (key: string, value: string) => {
    if (this.full) throw new Error('no room');
    this.items.set(key, value);
  };
}

test('Tries to break: only a token that was taken is kept, and none after it was cleared.', () => {
  const storage = new FakeStorage();
  const keeper = new Keeper(storage);
  keeper.show('a');
  expect(storage.items.size).toBe(0);
  keeper.keep();
  expect(new Keeper(storage).token).toBe('a');
  keeper.clear();
  expect([keeper.token, storage.items.size]).toEqual([null, 0]);
});

test('Tries to break: without a storage, or room in it, the token lasts as long as the page.', () => {
  const full = new FakeStorage();
  full.full = true;
  for (const keeper of [new Keeper(full), new Keeper(null)]) {
    keeper.show('a');
    keeper.keep();
    expect(keeper.token).toBe('a');
  }
});

test.each(['abc', '  abc\n', 'Bearer abc', 'bearer   abc '])('Tries to break: %j is the token abc.', (text) => {
  expect(tokenIn(text)).toBe('abc');
});
