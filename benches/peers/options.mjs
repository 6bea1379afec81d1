// Command line, announcement and end of a peer.

import { parseArgs } from 'node:util';

/** `--port` (0: the kernel chooses), `--cork`, and `--tick-ms`, which means nothing without `--cork`. */
export function options() {
  const { values } = parseArgs({
    options: {
      port: { type: 'string', default: '0' },
      cork: { type: 'boolean', default: false },
      'tick-ms': { type: 'string', default: '20' },
    },
  });
  return { port: whole('port', values.port, 65_535), cork: values.cork, tickMs: whole('tick-ms', values['tick-ms'], 60_000) };
}

/** Says on which port the peer listens, and ends the process when it is told to. */
export function serving(name, port) {
  process.on('SIGTERM', () => process.exit(0));
  console.log(`${name} listening on 127.0.0.1:${port}`);
}

function whole(name, text, max) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > max) {
    console.error(`--${name}: a whole number up to ${max}`);
    process.exit(2);
  }
  return value;
}
