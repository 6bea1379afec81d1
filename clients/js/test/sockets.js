// WebSockets over node:net, both ends, as much as the tests need: Debian's Node has none of its own.

import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { connect } from 'node:net';

const HANDSHAKE_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/** One frame that is a whole message; clients mask. */
function encode(opcode, payload, isMasked) {
  const length = payload.length;
  const header = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  header[0] = 0x80 | opcode;
  header[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
  if (header.length === 4) header.writeUInt16BE(length, 2);
  if (header.length === 10) header.writeBigUInt64BE(BigInt(length), 2);
  if (!isMasked) return Buffer.concat([header, payload]);
  header[1] |= 0x80;
  const mask = randomBytes(4);
  return Buffer.concat([header, mask, unmasked(payload, mask)]);
}

function unmasked(payload, mask) {
  return payload.map((byte, at) => byte ^ mask[at % 4]);
}

/** Bytes as they come to frames. Neither end of these tests fragments its messages. */
class Frames {
  #bytes = Buffer.alloc(0);

  *push(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    for (;;) {
      const all = this.#bytes;
      if (all.length < 2) return;
      const [opcode, short, isMasked] = [all[0] & 15, all[1] & 127, all[1] >= 128];
      if ((all[0] & 0xf0) !== 0x80) throw new Error('a fragment, or reserved bits');
      const lengthBytes = short < 126 ? 0 : short === 126 ? 2 : 8;
      const begin = 2 + lengthBytes + (isMasked ? 4 : 0);
      if (all.length < begin) return;
      const length = lengthBytes === 0 ? short : Number(`0x${all.toString('hex', 2, 2 + lengthBytes)}`);
      if (all.length < begin + length) return;
      const payload = all.subarray(begin, begin + length);
      this.#bytes = all.subarray(begin + length);
      yield { opcode, payload: isMasked ? unmasked(payload, all.subarray(begin - 4, begin)) : payload };
    }
  }
}

function closePayload(code, reason) {
  if (!code) return Buffer.alloc(0);
  const payload = Buffer.concat([Buffer.alloc(2), Buffer.from(reason)]);
  payload.writeUInt16BE(code);
  return payload;
}

/** What a browser has, for clients: a WebSocket on one TCP connection. */
export class TinyWebSocket {
  readyState = 0;
  protocol = '';
  #tcp;
  #frames = new Frames();
  #closed = { code: 1006, reason: '' };

  constructor(url, protocol) {
    const { hostname, port, pathname, host } = new URL(url);
    this.#tcp = connect({ host: hostname, port: Number(port), noDelay: true });
    const key = randomBytes(16).toString('base64');
    const lines = [
      `GET ${pathname} HTTP/1.1`, `Host: ${host}`, 'Connection: Upgrade', 'Upgrade: websocket',
      'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${key}`, `Sec-WebSocket-Protocol: ${protocol}`, '', '',
    ];
    this.#tcp.on('connect', () => this.#tcp.write(lines.join('\r\n')));
    let head = Buffer.alloc(0);
    this.#tcp.on('data', (bytes) => {
      if (this.readyState > 0) return this.#take(bytes);
      head = Buffer.concat([head, bytes]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      const reply = head.subarray(0, end).toString();
      if (!reply.startsWith('HTTP/1.1 101 ')) return this.#tcp.destroy();
      this.protocol = reply.match(/^sec-websocket-protocol: *(.*)$/im)?.[1].trim() ?? '';
      this.readyState = 1;
      this.onopen?.({});
      this.#take(head.subarray(end + 4));
    });
    this.#tcp.on('error', () => {});
    this.#tcp.on('close', () => {
      this.readyState = 3;
      this.onclose?.(this.#closed);
    });
  }

  get bufferedAmount() {
    return this.#tcp.writableLength;
  }

  send(data) {
    if (this.readyState !== 1) return;
    this.#tcp.write(encode(typeof data === 'string' ? TEXT : BINARY, Buffer.from(data), true));
  }

  close(code, reason = '') {
    if (this.readyState === 0) this.#tcp.destroy();
    else if (this.readyState === 1) this.#tcp.end(encode(CLOSE, closePayload(code, reason), true));
    this.readyState = Math.max(this.readyState, 2);
  }

  #take(bytes) {
    for (const { opcode, payload } of this.#frames.push(bytes)) {
      if (opcode === PING) this.#tcp.write(encode(PONG, payload, true));
      else if (opcode === TEXT) this.onmessage?.({ data: payload.toString() });
      else if (opcode === BINARY) this.onmessage?.({ data: new Uint8Array(payload).buffer });
      else if (opcode === CLOSE) {
        const code = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
        this.#closed = { code, reason: payload.subarray(2).toString() };
        this.close(code === 1005 ? undefined : code);
      }
    }
  }
}

/** A gateway's end: each connection is handed to `each`, with what it hears in `messages`. */
export async function listen(each, { protocol = 'ringroad.v1', port = 0 } = {}) {
  const server = createServer((request, response) => response.writeHead(404).end());
  const links = new Set();
  server.on('upgrade', (request, tcp) => {
    const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + HANDSHAKE_GUID);
    const chosen = protocol ? `Sec-WebSocket-Protocol: ${protocol}\r\n` : '';
    tcp.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `${chosen}Sec-WebSocket-Accept: ${accept.digest('base64')}\r\n\r\n`,
    );
    const frames = new Frames();
    const link = {
      messages: [],
      closedWith: null,
      say: (event, data = {}) => tcp.write(encode(TEXT, Buffer.from(JSON.stringify({ event, data })), false)),
      send: (bytes) => tcp.write(encode(BINARY, Buffer.from(bytes), false)),
      close: (code, reason = '') => tcp.end(encode(CLOSE, closePayload(code, reason), false)),
      destroy: () => tcp.destroy(),
    };
    tcp.on('error', () => {});
    tcp.on('close', () => links.delete(link));
    tcp.on('data', (bytes) => {
      for (const { opcode, payload } of frames.push(bytes)) {
        if (opcode === TEXT) link.messages.push(JSON.parse(payload.toString()));
        else if (opcode === BINARY) link.messages.push(payload);
        else if (opcode === CLOSE) {
          link.closedWith = payload.length >= 2 ? payload.readUInt16BE(0) : 1005;
          tcp.end(encode(CLOSE, payload, false));
        }
      }
    });
    links.add(link);
    each(link);
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    port: server.address().port,
    url: `ws://127.0.0.1:${server.address().port}/v2v`,
    /** Ends the server and all its connections. */
    stop: () => {
      for (const link of links) link.destroy();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

const PATIENCE_MS = 20_000;

/** Waits until something is so, and gives it. */
export async function until(what, look) {
  const deadlineMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > deadlineMs) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
