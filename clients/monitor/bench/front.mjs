// Serves the built page, under the policy that the server sends, before a server that runs elsewhere.
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import { extname } from 'node:path';

const PAGE = new URL('../../../ngos/web/page/', import.meta.url);
export const POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'";
const KINDS = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

/** Listen on a free port of the loopback; `back` is the server's URL. */
export async function front(back) {
  const { hostname, port } = new URL(back);
  const server = http.createServer(async (request, response) => {
    const path = new URL(request.url, 'http://page').pathname;
    const name = path === '/' ? 'index.html' : path.slice(1);
    try {
      if (name.includes('..')) throw new Error('outside of the page');
      const body = await readFile(new URL(name, PAGE));
      response.setHeader('content-type', KINDS[extname(name)] ?? 'application/octet-stream');
      response.setHeader('content-security-policy', POLICY);
      response.end(body);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  server.on('upgrade', (request, socket, head) => {
    const peer = net.connect(Number(port), hostname, () => {
      const lines = request.rawHeaders.flatMap((name, i, all) => (i % 2 ? [] : [`${name}: ${all[i + 1]}`]));
      peer.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      peer.write(head);
      socket.pipe(peer).pipe(socket);
    });
    for (const one of [peer, socket]) {
      one.on('error', () => {
        peer.destroy();
        socket.destroy();
      });
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}
