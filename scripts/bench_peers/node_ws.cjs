// node's `ws`, as its README has it: for each client, `client.send(data, { binary: false })` of the same Buffer.
// Compression is off by default, and bufferutil is installed beside it, its "opt-in for performance". A prepared frame
// for all clients (the static Sender.frame) is not part of its documented interface. Less than ngos: no envelope, no
// topics, no limits; the messages of a client that does not read pile up in memory.
'use strict';
const { OPEN, WebSocketServer } = require('ws');

const subscribers = new Set();
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 1000 });

server.on('connection', (ws, request) => {
  const role = request.url.split('role=')[1];
  ws.on('error', () => ws.terminate());
  if (role === 'sub') {
    subscribers.add(ws);
    ws.on('close', () => subscribers.delete(ws));
  } else if (role === 'pub') {
    ws.on('message', (data) => {
      for (const client of subscribers) {
        if (client.readyState === OPEN) client.send(data, { binary: false });
      }
    });
  } else {
    ws.on('message', (data) => ws.send(data, { binary: false }));
  }
});
