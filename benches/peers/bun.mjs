// Bun's own server.

import { Conn, Gateway } from './gateway.mjs';
import { options, serving } from './options.mjs';
import { MESSAGE_BYTES_MAX, PATH, UNSENT_BYTES_MAX } from './protocol.mjs';
import { Waiting } from './waiting.mjs';

const { port, cork, tickMs } = options();

let corked;
function sendAll(socket) {
  for (let index = 0; index < corked.length; index += 1) socket.sendText(corked[index]);
}

const waiting = new Waiting(tickMs, ({ socket }, texts) => {
  if (texts.length === 1) return socket.sendText(texts[0]);
  corked = texts;
  socket.cork(sendAll);
});
const gateway = new Gateway({
  prepare: (text) => text,
  send: cork ? (conn, text) => waiting.add(conn, text) : ({ socket }, text) => socket.sendText(text),
  everyone: (text) => server.publish('everyone', text),
  close: ({ socket }, code, reason) => socket.close(code, reason),
});

const server = Bun.serve({
  hostname: '127.0.0.1',
  port,
  routes: {
    [PATH]: (request, server) => (server.upgrade(request) ? undefined : new Response(null, { status: 426 })),
  },
  fetch: () => new Response(null, { status: 404 }),
  websocket: {
    maxPayloadLength: MESSAGE_BYTES_MAX,
    backpressureLimit: UNSENT_BYTES_MAX,
    closeOnBackpressureLimit: true,
    perMessageDeflate: false,
    // Bun pings by itself.
    idleTimeout: 60,
    open(socket) {
      socket.data = new Conn(socket);
      socket.subscribe('everyone');
      gateway.opened(socket.data);
    },
    message(socket, data) {
      gateway.heard(socket.data, data);
    },
    close(socket) {
      gateway.closed(socket.data);
    },
  },
});
serving(cork ? 'bun cork' : 'bun', server.port);
