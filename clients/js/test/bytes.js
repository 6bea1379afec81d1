// State frames as a gateway writes them, from the tables of docs/PROTOCOL.md, section 12; and dice that repeat.

import { readFileSync } from 'node:fs';

export const PROTOCOL = readFileSync(new URL('../../../docs/PROTOCOL.md', import.meta.url), 'utf8');

/** A record of which nothing is available but what is given, in wire units. */
export function record(vehicleKey, fields = {}) {
  const bytes = Buffer.alloc(32);
  bytes.writeBigUInt64LE(vehicleKey, 0);
  bytes.writeInt32LE(fields.lat ?? 900_000_001, 8);
  bytes.writeInt32LE(fields.lon ?? 1_800_000_001, 12);
  bytes.writeUInt16LE(fields.elevation ?? 0, 16);
  bytes.writeUInt16LE((fields.speed ?? 8191) + (fields.transmission ?? 7) * 8192, 18);
  bytes.writeUInt16LE(fields.heading ?? 28_800, 20);
  bytes.writeInt16LE(fields.yawRate ?? -32_768, 22);
  bytes.writeInt16LE(fields.acceleration ?? 2001, 24);
  bytes.writeUInt16LE(fields.secMark ?? 65_535, 26);
  bytes.writeUInt16LE(fields.flags ?? 0, 28);
  bytes.writeUInt8(fields.accuracy ?? 255, 30);
  bytes.writeUInt8(fields.msgCnt ?? 0, 31);
  return bytes;
}

/** The message around records. */
export function frame(records, { flags = 0, epoch = 0, baseMs = 1_767_268_800_000, recordBytes = 32 } = {}) {
  const header = Buffer.alloc(16);
  header.set([1, 1, recordBytes, flags]);
  header.writeUInt16LE(records.length, 4);
  header.writeUInt16LE(epoch, 6);
  header.writeBigUInt64LE(BigInt(baseMs), 8);
  const filler = Buffer.alloc(recordBytes - 32, 0xee);
  return arrayBuffer(Buffer.concat([header, ...records.flatMap((bytes) => [bytes, filler])]));
}

/** As a WebSocket hands it over. */
export function arrayBuffer(bytes) {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** Whole numbers below `limit`, the same in every run: xorshift32. */
export function dice(seed) {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}
