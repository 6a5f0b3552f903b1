import { CommandError } from '@neurograph/client';
import { act, cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Monitor } from '../src/state/monitor';
import { Board } from '../src/ui/Board';
import { MonitorContext } from '../src/ui/hooks';
import { FakeClient } from './fake-client';
import { edgeOf, tokenOf } from './samples';

let fake: FakeClient;
let monitor: Monitor;

beforeEach(() => {
  vi.useFakeTimers();
  fake = new FakeClient();
});

afterEach(() => {
  cleanup();
  monitor.close();
  vi.useRealTimers();
});

/** Show the page, connected, with all that is there read. */
async function show(): Promise<void> {
  monitor = new Monitor(fake.client);
  render(
    <MonitorContext value={monitor}>
      <Board />
    </MonitorContext>,
  );
  monitor.open();
  await pass(1000);
}

const pass = (ms: number) => act(() => vi.advanceTimersByTimeAsync(ms));

test('Tries to break: every part of the page has a name, and every control a label.', async () => {
  await show();
  for (const name of ['Picture of the tokens', 'Topics', 'Events']) {
    expect(screen.getByRole('region', { name })).toBeDefined();
  }
  expect(screen.getByRole('banner')).toBeDefined();
  expect(screen.getByRole('main')).toBeDefined();
  for (const role of ['button', 'textbox', 'searchbox', 'combobox', 'radio', 'tab'] as const) {
    for (const control of screen.queryAllByRole(role)) {
      const named = screen.queryAllByRole(role, { name: /\S/ });
      expect(named).toContain(control);
    }
  }
});

test('Tries to break: without WebGL the page says so, and the list of tokens works.', async () => {
  fake.tokens = [tokenOf('a', { metadata: { name: 'Ada' } })];
  await show();
  expect(screen.getByText(/no WebGL 2/)).toBeDefined();
  fireEvent.click(screen.getByRole('tab', { name: 'Find' }));
  fireEvent.click(within(screen.getByRole('table')).getByRole('button', { name: 'Ada' }));
  await pass(1000);
  expect(screen.getByRole('heading', { name: 'Ada' })).toBeDefined();
  expect(screen.getAllByRole('rowheader').map((cell) => cell.textContent)).toContain('abstract');
});

test('Tries to break: an empty server is offered a demo; with the first token the offer goes.', async () => {
  await show();
  expect(screen.getByRole('button', { name: 'Load a small demo graph' })).toBeDefined();
  fake.event('tokens', 'token.created', tokenOf('a'));
  await pass(1000);
  expect(screen.queryByRole('button', { name: 'Load a small demo graph' })).toBeNull();
});

test('Tries to break: the state is told as it is: lost, the time to the next try, and what was resumed.', async () => {
  await show();
  const pill = () => screen.getByText(/Connected|Reconnecting/, { selector: '.state' }).textContent;
  expect(pill()).toBe('Connected');
  fake.tell('state', 'reconnecting');
  fake.tell('disconnected', { code: 1012, reason: '', nextMs: 5000 });
  await pass(1000);
  expect(pill()).toMatch(/Reconnecting in [34]\.\d s/);
  await fake.connect();
  fake.tell('resumed', { topic: 'tokens', replay: 12 });
  await pass(1000);
  expect(screen.getByRole('status').textContent).toContain('resumed 12 events on tokens');
});

test('Tries to break: a clock that is set back an hour stops no rate and lengthens no pause.', async () => {
  await show();
  fake.event('tokens', 'token.created', tokenOf('a'));
  await pass(1000);
  vi.setSystemTime(Date.now() - 3_600_000);
  for (let i = 0; i < 50; i++) {
    fake.event('tokens', 'token.updated', tokenOf('a', { version: i + 2 }));
    await pass(100);
  }
  expect(monitor.snapshot().topics[0]?.perSecond).toBeGreaterThan(5);
  fake.tell('state', 'reconnecting');
  fake.tell('disconnected', { code: 1012, reason: '', nextMs: 5000 });
  vi.setSystemTime(Date.now() - 3_600_000);
  await pass(1000);
  expect(screen.getByText(/Reconnecting/, { selector: '.state' }).textContent).toMatch(/ in [34]\.\d s/);
  await fake.connect();
  expect(screen.getByRole('status').textContent).not.toContain('-');
});

test('Tries to break: an end is no reconnecting, and there is a way back.', async () => {
  await show();
  fake.tell('state', 'ended');
  fake.tell('disconnected', { code: 1008, reason: 'no', nextMs: null });
  await pass(1000);
  fireEvent.click(screen.getByRole('button', { name: 'Connect again' }));
  await pass(1000);
  expect(screen.getByText('Connected', { selector: '.state' })).toBeDefined();
});

test('Tries to break: a thousand events in a second are a handful of renders, and all are counted.', async () => {
  await show();
  let told = 0;
  const end = monitor.subscribe(() => told++);
  for (let i = 0; i < 1000; i++) {
    fake.event('tokens', 'token.updated', tokenOf('a', { version: i + 1 }));
    if (i % 100 === 99) await pass(100);
  }
  end();
  await pass(500);
  expect(told).toBeLessThan(10);
  expect(monitor.snapshot().topics[0]).toMatchObject({ name: 'tokens', seq: 1000 });
  expect(screen.getByRole('log').querySelectorAll('.row').length).toBeLessThan(60);
});

test('Tries to break: paused, the stream stands still and counts what it holds back.', async () => {
  await show();
  fake.event('tokens', 'token.created', tokenOf('a', { metadata: { name: 'First' } }));
  await pass(500);
  fireEvent.click(screen.getByRole('button', { name: 'Pause' }));
  fake.event('tokens', 'token.created', tokenOf('b', { metadata: { name: 'Second' } }));
  await pass(500);
  const log = screen.getByRole('log');
  expect(within(log).queryByText('Second')).toBeNull();
  expect(screen.getByText('paused · 1 new')).toBeDefined();
  fireEvent.click(screen.getByRole('button', { name: 'Resume' }));
  expect(within(screen.getByRole('log')).getByText('Second')).toBeDefined();
});

test('Tries to break: a filter that lets nothing through says so.', async () => {
  await show();
  fake.event('graph', 'graph.connected', edgeOf('e', 'a', 'b'));
  await pass(500);
  fireEvent.change(screen.getByLabelText('Filter events by text'), { target: { value: 'nowhere' } });
  expect(screen.getByText('No event passes the filter.')).toBeDefined();
});

test("Tries to break: what is wrong is said at its field, by the form and by the server's path.", async () => {
  await show();
  fireEvent.click(screen.getByRole('tab', { name: 'New' }));
  const weight = screen.getByLabelText('Weight');
  fireEvent.change(weight, { target: { value: 'heavy' } });
  fireEvent.click(screen.getByRole('button', { name: 'Create token' }));
  expect(fake.sent).toEqual([]);
  expect(weight.getAttribute('aria-invalid')).toBe('true');
  fireEvent.change(weight, { target: { value: '2' } });
  const details = { errors: [{ path: 'payload.type', message: 'is taken' }] };
  const payload = { code: 'invalid_payload', message: 'no', retryable: false, details };
  fake.refuse = new CommandError({ payload } as unknown as ConstructorParameters<typeof CommandError>[0]);
  fireEvent.click(screen.getByRole('button', { name: 'Create token' }));
  await pass(100);
  const type = screen.getByLabelText('Type');
  expect(type.getAttribute('aria-invalid')).toBe('true');
  expect(document.getElementById(type.getAttribute('aria-describedby') ?? '')?.textContent).toBe('is taken');
});

test('Tries to break: what is typed into a form is still there after another tab, and gone after it was sent.', async () => {
  await show();
  const open = (name: string) => fireEvent.click(screen.getByRole('tab', { name }));
  const weight = () => screen.getByLabelText('Weight') as HTMLInputElement;
  open('New');
  fireEvent.change(weight(), { target: { value: '42' } });
  for (const name of ['Find', 'Token', 'New']) open(name);
  expect(weight().value).toBe('42');
  fireEvent.click(screen.getByRole('button', { name: 'Create token' }));
  await pass(100);
  open('New');
  expect(weight().value).toBe('1');
});

test('Tries to break: a token that changes or goes under a form is told at once, and the text stays.', async () => {
  const token = tokenOf('a', { metadata: { name: 'Ada' } });
  fake.tokens = [token];
  await show();
  fireEvent.click(screen.getByRole('tab', { name: 'Find' }));
  fireEvent.click(within(screen.getByRole('table')).getByRole('button', { name: 'Ada' }));
  await pass(500);
  fireEvent.click(screen.getByRole('button', { name: 'Change' }));
  const weight = () => screen.getByLabelText('Weight') as HTMLInputElement;
  fireEvent.change(weight(), { target: { value: '42' } });
  fireEvent.click(screen.getByRole('tab', { name: 'Find' }));
  fireEvent.click(screen.getByRole('tab', { name: 'Token' }));
  await pass(100);
  expect(weight().value).toBe('42');
  fake.tokens = [{ ...token, version: 2, flags: 5 }];
  fake.event('tokens', 'token.updated', { ...token, version: 2, flags: 5 });
  await pass(1000);
  expect(screen.getByRole('alert').textContent).toContain('is at version 2, this form at 1');
  fireEvent.click(screen.getByRole('button', { name: 'Keep what I typed, take the rest from there' }));
  expect([weight().value, (screen.getByLabelText('Flags') as HTMLInputElement).value]).toEqual(['42', '5']);
  expect(screen.queryByRole('alert')).toBeNull();
  fake.tokens = [];
  fake.event('tokens', 'token.deleted', { token_id: 'a' });
  await pass(1000);
  expect(screen.getByRole('alert').textContent).toContain('deleted');
  expect(weight().value).toBe('42');
  fireEvent.click(screen.getByRole('button', { name: 'Cancel' }));
  expect(screen.getByText(/is gone/)).toBeDefined();
});

test('Tries to break: nothing is deleted before it was confirmed.', async () => {
  fake.tokens = [tokenOf('a', { metadata: { name: 'Ada' } })];
  await show();
  fireEvent.click(screen.getByRole('tab', { name: 'Find' }));
  fireEvent.click(within(screen.getByRole('table')).getByRole('button', { name: 'Ada' }));
  await pass(500);
  fireEvent.click(screen.getByRole('button', { name: 'Delete' }));
  expect(fake.sent).toEqual([]);
  const dialog = screen.getByRole('dialog', { name: 'Delete Ada?' });
  fireEvent.click(within(dialog).getByRole('button', { name: 'Delete' }));
  await pass(500);
  expect(fake.sent).toEqual([['deleteToken', 'a']]);
});
