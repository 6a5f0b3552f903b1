import { expect, test } from 'vitest';
import { emptyDraft, read } from '../src/forms/draft';

test('Tries to break: an empty draft can be sent as it is.', () => {
  expect(read(emptyDraft()).faults).toBeNull();
});

test('Tries to break: an empty type and one of 51 characters are refused.', () => {
  for (const type of ['', 'x'.repeat(51)]) expect(read({ ...emptyDraft(), type }).faults).toHaveProperty('type');
});

test('Tries to break: flags that are no unsigned 32-bit number are refused.', () => {
  for (const flags of ['-1', '0.5', '4294967296']) {
    expect(read({ ...emptyDraft(), flags }).faults).toHaveProperty('flags');
  }
});

test('Tries to break: metadata that is a list or no JSON is refused.', () => {
  for (const metadata of ['[1]', '{']) expect(read({ ...emptyDraft(), metadata }).faults).toHaveProperty('metadata');
});
