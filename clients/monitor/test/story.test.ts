import { expect, test } from 'vitest';
import { Story, sentenceOf } from '../src/state/story';

const told = (story: Story) => story.chapters.map(sentenceOf);

test('Tries to break: a break tells why, how long, and what was resumed on which topics.', () => {
  const story = new Story();
  story.connected(0, 'ngos 1');
  story.lost(1000, 1012, '');
  story.connected(2300, 'ngos 1');
  story.resumed('tokens', 12);
  story.resumed('graph', 0);
  story.resumed('experience', 1);
  expect(told(story)).toEqual([
    'connected to ngos 1',
    'connection lost: the server is restarting',
    'back after 1.3 s · resumed 12 events on tokens, 1 event on experience',
  ]);
});

test('Tries to break: tries that fail are no breaks of their own, and the time counts from the first.', () => {
  const story = new Story();
  story.connected(0, 'ngos 1');
  for (const atMs of [1000, 2000, 3000]) story.lost(atMs, 1006, '');
  story.connected(91_000, 'ngos 1');
  story.resumed('tokens', 0);
  expect(told(story).slice(1)).toEqual([
    'connection lost: gone without a word',
    'back after 1 min 30 s · resumed, nothing was missed',
  ]);
});

test('Tries to break: a gap is said, never called a resume.', () => {
  const story = new Story();
  story.gap(0, 'tokens');
  expect(told(story)).toEqual(['gap on tokens: its state was fetched anew']);
});

test('Tries to break: a connection that breaks for days does not fill the memory.', () => {
  const story = new Story();
  for (let i = 0; i < 1000; i++) {
    story.lost(i, 1006, '');
    story.connected(i, 'ngos 1');
  }
  expect(story.chapters.length).toBeLessThanOrEqual(50);
});
