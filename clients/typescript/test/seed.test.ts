import { createWebSocket } from '@neurograph/client';
import { expect, inject, it, vi } from 'vitest';

it("tries to break the user's program, which must work as it is written", async () => {
  const said = vi.spyOn(console, 'log');
  const isSaid = new Promise((resolve) => said.mockImplementation(resolve));
  const url = inject('serverUrl');

  const ws = createWebSocket({ url, debug: true, reconnect: true });
  await ws.connect();
  ws.on('token.created', (msg) => {
    console.log('New token:', msg.payload.token_id);
  });
  ws.createToken({
    type: 'demo',
    coord_x: [1.0, 0, 0, 0, 0, 0, 0, 0],
    coord_y: [0, 0, 0, 0, 0, 0, 0, 0],
    coord_z: [0, 0, 0, 0, 0, 0, 0, 0],
  });

  await isSaid;
  expect(said.mock.calls[0]).toEqual(['New token:', expect.stringMatching(/^[0-9a-f-]{36}$/)]);
  await ws.disconnect();
});
