// Node with `ws`.

import { Sender, WebSocketServer } from 'ws';

import { Conn, Gateway } from './gateway.mjs';
import { options, serving } from './options.mjs';
import { MESSAGE_BYTES_MAX, PATH, PING_MS, UNSENT_BYTES_MAX } from './protocol.mjs';
import { Waiting } from './waiting.mjs';

const { port, cork, tickMs } = options();

/** A text message's whole frame in one buffer: Sender.frame() would give two, and each send would be gathered. */
function prepare(text) {
  const [head, body] = Sender.frame(Buffer.from(text), { fin: true, opcode: 1, mask: false, rsv1: false, readOnly: true });
  return [Buffer.concat([head, body])];
}

// As Socket.IO sends what it has framed once for many.
function send({ socket }, prepared) {
  if (socket.readyState !== socket.OPEN) return;
  if (socket.bufferedAmount > UNSENT_BYTES_MAX) socket.terminate();
  else socket._sender.sendFrame(prepared);
}

const waiting = new Waiting(tickMs, (conn, frames) => send(conn, [frames.length === 1 ? frames[0] : Buffer.concat(frames)]));
const conns = new Set();
const gateway = new Gateway({
  prepare,
  send: cork ? (conn, [frame]) => waiting.add(conn, frame) : send,
  everyone(prepared) {
    for (const conn of conns) send(conn, prepared);
  },
  close: ({ socket }, code, reason) => socket.close(code, reason),
});

const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  path: PATH,
  backlog: 4096,
  maxPayload: MESSAGE_BYTES_MAX,
  perMessageDeflate: false,
  // JSON.parse() would stumble over what is not text.
  skipUTF8Validation: true,
  clientTracking: false,
});
server.on('connection', (socket) => {
  const conn = new Conn(socket);
  conns.add(conn);
  socket.conn = conn;
  socket.isAlive = true;
  socket.on('message', heard);
  socket.on('pong', alive);
  socket.on('close', closed);
  // Broken frames; `close` follows.
  socket.on('error', () => {});
  gateway.opened(conn);
});

function heard(data) {
  this.isAlive = true;
  gateway.heard(this.conn, data);
}

function alive() {
  this.isAlive = true;
}

function closed() {
  conns.delete(this.conn);
  gateway.closed(this.conn);
}

setInterval(() => {
  for (const { socket } of conns) {
    if (!socket.isAlive) socket.terminate();
    else {
      socket.isAlive = false;
      socket.ping();
    }
  }
}, PING_MS);

server.on('listening', () => serving(cork ? 'node ws cork' : 'node ws', server.address().port));
