// A client of Ringroad gateways: `ringroad.v1` over WebSocket, for browsers and Node.
//
// What a gateway says and hears is in docs/PROTOCOL.md; what each name here means is in ringroad.d.ts.
// In reading order: keys, states as columns, state frames, the vehicles in view, positions to send, the connection.

/** What is wrong. `code` is for programs: one of section 5 of the protocol, or one of those in ringroad.d.ts. */
export class RingroadError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'RingroadError';
    this.code = code;
  }
}

// ---------------------------------------------------------------------------------------------------------- keys

const VEHICLE_ID = /^[A-Za-z0-9._-]{3,40}$/;
const KEY_HEX = /^[0-9a-f]{16}$/;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

// The first 64 bytes of XXH3's secret, as little-endian words.
const SECRET = [
  0xbe4b_a423_396c_feb8n, 0x1cad_21f7_2c81_017cn, 0xdb97_9083_e96d_d4den, 0x1f67_b3b7_a4a4_4072n,
  0x78e5_c0cc_4ee6_79cbn, 0x2172_ffcc_7dd0_5a82n, 0x8e24_43f7_7446_08b8n, 0x4c26_3a81_e690_35e0n,
];

/** The key of a vehicle: XXH3-64 of its id, seed 0; of that algorithm what ids of 3 to 40 bytes need. */
export function key(vehicleId) {
  if (typeof vehicleId !== 'string' || !VEHICLE_ID.test(vehicleId)) {
    throw new RingroadError('validation_error', 'a vehicle id is 3 to 40 of A-Z a-z 0-9 . _ -');
  }
  const length = vehicleId.length;
  const bytes = new DataView(new ArrayBuffer(40));
  for (let at = 0; at < length; at++) bytes.setUint8(at, vehicleId.charCodeAt(at));
  const u8 = (at) => BigInt(bytes.getUint8(at));
  const u32 = (at) => BigInt(bytes.getUint32(at, true));
  const u64 = (at) => bytes.getBigUint64(at, true);
  const n = BigInt(length);

  if (length === 3) {
    let hash = (u8(0) << 16n | u8(1) << 24n | u8(2) | n << 8n) ^ (SECRET[0] & 0xffff_ffffn) ^ (SECRET[0] >> 32n);
    hash = ((hash ^ (hash >> 33n)) * 0xc2b2_ae3d_27d4_eb4fn) & U64_MAX;
    hash = ((hash ^ (hash >> 29n)) * 0x1656_67b1_9e37_79f9n) & U64_MAX;
    return hash ^ (hash >> 32n);
  }
  if (length <= 8) {
    let hash = (u32(length - 4) | (u32(0) << 32n)) ^ SECRET[1] ^ SECRET[2];
    hash = ((hash ^ rotated(hash, 49n) ^ rotated(hash, 24n)) * 0x9fb2_1c65_1e98_df25n) & U64_MAX;
    hash = ((hash ^ ((hash >> 35n) + n)) * 0x9fb2_1c65_1e98_df25n) & U64_MAX;
    return hash ^ (hash >> 28n);
  }
  if (length <= 16) {
    const low = u64(0) ^ SECRET[3] ^ SECRET[4];
    const high = u64(length - 8) ^ SECRET[5] ^ SECRET[6];
    return avalanche(n + swapped(low) + high + folded(low, high));
  }
  const mixed = (at, word) => folded(u64(at) ^ SECRET[word], u64(at + 8) ^ SECRET[word + 1]);
  let hash = n * 0x9e37_79b1_85eb_ca87n + mixed(0, 0) + mixed(length - 16, 2);
  if (length > 32) hash += mixed(16, 4) + mixed(length - 32, 6);
  return avalanche(hash);
}

function rotated(word, bits) {
  return ((word << bits) & U64_MAX) | (word >> (64n - bits));
}

function swapped(word) {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setBigUint64(0, word, true);
  return bytes.getBigUint64(0, false);
}

function folded(a, b) {
  const product = a * b;
  return (product & U64_MAX) ^ (product >> 64n);
}

function avalanche(sum) {
  let hash = sum & U64_MAX;
  hash = ((hash ^ (hash >> 37n)) * 0x1656_6791_9e37_79f9n) & U64_MAX;
  return hash ^ (hash >> 32n);
}

function hexOf(keyLo, keyHi) {
  return keyHi.toString(16).padStart(8, '0') + keyLo.toString(16).padStart(8, '0');
}

// -------------------------------------------------------------------------------------------- states as columns

/** A record's flag: the vehicle has left the view. */
export const GONE = 1 << 15;

/** A record's flag: the vehicle has raised an alert. */
export const EMERGENCY = 1 << 14;

const ROWS_MIN = 256;
const COLUMNS = Object.entries({
  keyLo: Uint32Array, keyHi: Uint32Array, lat: Float64Array, lon: Float64Array, ts: Float64Array,
  elevation: Float32Array, speed: Float32Array, heading: Float32Array, yawRate: Float32Array,
  acceleration: Float32Array, accuracy: Float32Array,
  flags: Uint16Array, transmission: Uint8Array, msgCnt: Uint8Array,
});

/** States of vehicles: a typed array per field, a row per vehicle, so that a state costs no object. */
class States {
  constructor() {
    for (const [name, Column] of COLUMNS) this[name] = new Column(ROWS_MIN);
  }

  key(row) {
    return (BigInt(this.keyHi[row]) << 32n) | BigInt(this.keyLo[row]);
  }

  keyHex(row) {
    return hexOf(this.keyLo[row], this.keyHi[row]);
  }
}

/** Makes room for so many rows. Columns are replaced, and keep what is in them. */
function reserve(states, rows) {
  const room = states.keyLo.length;
  if (rows <= room) return;
  for (const [name, Column] of COLUMNS) {
    const column = new Column(Math.max(rows, 2 * room));
    column.set(states[name]);
    states[name] = column;
  }
}

// Field by field: a loop over names would look each of them up, for every vehicle and frame.
function copyRow(to, row, from, fromRow) {
  to.keyLo[row] = from.keyLo[fromRow];
  to.keyHi[row] = from.keyHi[fromRow];
  to.lat[row] = from.lat[fromRow];
  to.lon[row] = from.lon[fromRow];
  to.ts[row] = from.ts[fromRow];
  to.elevation[row] = from.elevation[fromRow];
  to.speed[row] = from.speed[fromRow];
  to.heading[row] = from.heading[fromRow];
  to.yawRate[row] = from.yawRate[fromRow];
  to.acceleration[row] = from.acceleration[fromRow];
  to.accuracy[row] = from.accuracy[fromRow];
  to.flags[row] = from.flags[fromRow];
  to.transmission[row] = from.transmission[fromRow];
  to.msgCnt[row] = from.msgCnt[fromRow];
}

// ------------------------------------------------------------------------------------------------- state frames

const VERSION = 1;
const STATES_KIND = 1;
const HEADER_BYTES = 16;
const RECORD_BYTES = 32;
const SEC_MARK_RESERVED = 61_000;
const CLOCK_AHEAD_MS_MAX = 10_000;

/** A state frame. Its columns are used again for the next one that is read. */
export class StateFrame extends States {
  count = 0;
  epoch = 0;
  baseMs = 0;
  complete = false;
  tiered = false;
  cut = false;

  /** Reads a binary message. False: it is of a kind that is not known, and nothing changed. Throws a RingroadError. */
  read(message) {
    const view = ArrayBuffer.isView(message)
      ? new DataView(message.buffer, message.byteOffset, message.byteLength)
      : new DataView(message);
    const bytes = view.byteLength;
    if (bytes > 0 && view.getUint8(0) !== VERSION) invalidFrame(`version ${view.getUint8(0)} is not known`);
    if (bytes > 1 && view.getUint8(1) !== STATES_KIND) return false;
    if (bytes < HEADER_BYTES) invalidFrame('the frame is shorter than its header');
    const recordBytes = view.getUint8(2);
    if (recordBytes < RECORD_BYTES) invalidFrame(`records of ${recordBytes} bytes are too small`);
    const count = view.getUint16(4, true);
    if (bytes !== HEADER_BYTES + count * recordBytes) {
      invalidFrame(`${bytes} bytes are not a header and ${count} records of ${recordBytes}`);
    }

    const flags = view.getUint8(3);
    this.complete = (flags & 1) !== 0;
    this.tiered = (flags & 2) !== 0;
    this.cut = (flags & 4) !== 0;
    this.count = count;
    this.epoch = view.getUint16(6, true);
    this.baseMs = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
    reserve(this, count);
    for (let row = 0, at = HEADER_BYTES; row < count; row++, at += recordBytes) this.#readRecord(view, at, row);
    return true;
  }

  #readRecord(view, at, row) {
    this.keyLo[row] = view.getUint32(at, true);
    this.keyHi[row] = view.getUint32(at + 4, true);
    const lat = view.getInt32(at + 8, true);
    const lon = view.getInt32(at + 12, true);
    const isPlace = lat >= -900_000_000 && lat <= 900_000_000 && lon > -1_800_000_000 && lon <= 1_800_000_000;
    this.lat[row] = isPlace ? lat / 1e7 : NaN;
    this.lon[row] = isPlace ? lon / 1e7 : NaN;
    const elevation = view.getUint16(at + 16, true);
    this.elevation[row] = elevation === 0 ? NaN : (elevation - 4096) / 10;
    const speed = view.getUint16(at + 18, true) & 0x1fff;
    this.speed[row] = speed === 8191 ? NaN : speed / 50;
    this.transmission[row] = view.getUint8(at + 19) >> 5;
    const heading = view.getUint16(at + 20, true);
    this.heading[row] = heading < 28_800 ? heading / 80 : NaN;
    const yawRate = view.getInt16(at + 22, true);
    this.yawRate[row] = yawRate === -32_768 ? NaN : yawRate / 100;
    const acceleration = view.getInt16(at + 24, true);
    this.acceleration[row] = acceleration >= -2000 && acceleration <= 2000 ? acceleration / 100 : NaN;
    this.ts[row] = resolved(view.getUint16(at + 26, true), this.baseMs);
    this.flags[row] = view.getUint16(at + 28, true);
    const accuracy = view.getUint8(at + 30);
    this.accuracy[row] = accuracy === 255 ? NaN : accuracy / 20;
    this.msgCnt[row] = view.getUint8(at + 31);
  }
}

function invalidFrame(message) {
  throw new RingroadError('invalid_frame', message);
}

/** The latest instant with that secMark that is not too far after the base, Unix ms; NaN if there is none. */
function resolved(secMark, baseMs) {
  const latestMs = baseMs + CLOCK_AHEAD_MS_MAX;
  if (secMark >= SEC_MARK_RESERVED || latestMs > Number.MAX_SAFE_INTEGER) return NaN;
  const backMs = (latestMs % 60_000 + 60_000 - secMark % 60_000) % 60_000;
  return backMs <= latestMs ? latestMs - backMs : NaN;
}

// ---------------------------------------------------------------------------------------- the vehicles in view

// A gateway tells an identity once and again only when it may have been forgotten: it counts on 512 of those that
// are not in view, and on two for each vehicle that is. 20,000 are in view at most, unless an operator says so.
const IDENTITIES_KEPT_MAX = 65_536;

/**
 * The latest state of every vehicle in view, in rows 0 to `size` - 1. When one goes, the last takes its row.
 *
 * The index is an open-addressing table of rows, hashed by both halves of the key with multipliers of this table
 * alone: ids are chosen by strangers.
 */
export class Vehicles extends States {
  size = 0;
  epoch = 0;
  complete = false;
  tiered = false;
  cut = false;
  #rows = emptyTable(2 * ROWS_MIN);
  #factorLo = oddFactor();
  #factorHi = oddFactor();
  #identityOf = [];
  #identities = new Map();
  #sizeMax = 0;

  /** The row of a vehicle by its id, or -1. */
  row(vehicleId) {
    const whole = key(vehicleId);
    return this.rowOfKey(Number(whole & 0xffff_ffffn), Number(whole >> 32n));
  }

  /** The row of a vehicle by the halves of its key, or -1. */
  rowOfKey(keyLo, keyHi) {
    const rows = this.#rows;
    const mask = rows.length - 1;
    for (let at = this.#home(keyLo, keyHi); ; at = (at + 1) & mask) {
      const row = rows[at];
      if (row < 0 || (this.keyLo[row] === keyLo && this.keyHi[row] === keyHi)) return row;
    }
  }

  has(vehicleId) {
    return this.row(vehicleId) >= 0;
  }

  get(vehicleId) {
    const row = this.row(vehicleId);
    return row < 0 ? undefined : this.at(row);
  }

  /** Who a row is: {vehicleId, driverName, vehicleInfo}, or null if the gateway has not said. */
  identity(row) {
    return this.#identityOf[row] ?? null;
  }

  /** A row as an object. */
  at(row) {
    const identity = this.identity(row);
    const vehicle = {
      vehicleId: identity?.vehicleId ?? null,
      driverName: identity?.driverName ?? null,
      vehicleInfo: identity?.vehicleInfo ?? null,
      key: this.keyHex(row),
    };
    for (const [name] of COLUMNS) if (name !== 'keyLo' && name !== 'keyHi') vehicle[name] = this[name][row];
    return vehicle;
  }

  *[Symbol.iterator]() {
    for (let row = 0; row < this.size; row++) yield this.at(row);
  }

  /** Takes in a frame. `gone` is called with `{key, vehicleId}` of each vehicle that has left. */
  apply(frame, gone) {
    for (let from = 0; from < frame.count; from++) {
      const keyLo = frame.keyLo[from];
      const keyHi = frame.keyHi[from];
      let row = this.rowOfKey(keyLo, keyHi);
      if ((frame.flags[from] & GONE) !== 0) {
        if (row < 0) continue;
        const vehicleId = this.identity(row)?.vehicleId ?? null;
        this.#remove(row);
        gone?.({ key: hexOf(keyLo, keyHi), vehicleId });
        continue;
      }
      if (row < 0) row = this.#insert(keyLo, keyHi);
      copyRow(this, row, frame, from);
    }
    this.tiered = frame.tiered;
    this.cut = frame.cut;
    if (frame.complete && frame.epoch === this.epoch) this.complete = true;
  }

  /** Takes in `watching`: what is in view now has not been sent yet. */
  watching({ epoch, cut }) {
    this.epoch = epoch & 0xffff;
    this.cut = cut;
    this.complete = false;
  }

  /** Takes in `vehicle_identity`. */
  identify({ key: hex, vehicleId, driverName, vehicleInfo }) {
    if (typeof hex !== 'string' || !KEY_HEX.test(hex)) {
      throw new RingroadError('invalid_message', 'a key is 16 hexadecimal digits');
    }
    const identity = { vehicleId, driverName, vehicleInfo };
    // The one that was told last is last.
    this.#identities.delete(hex);
    this.#identities.set(hex, identity);
    const row = this.#rowOfHex(hex);
    if (row >= 0) this.#identityOf[row] = identity;
    this.#forget();
  }

  clear() {
    this.size = 0;
    this.epoch = 0;
    this.complete = false;
    this.tiered = false;
    this.cut = false;
    this.#rows.fill(-1);
    this.#identityOf.length = 0;
    this.#identities.clear();
    this.#sizeMax = 0;
  }

  /** Forgets who they were that have been away the longest. */
  #forget() {
    let surplus = this.#identities.size - IDENTITIES_KEPT_MAX - 2 * this.#sizeMax;
    if (surplus <= 0) return;
    for (const [hex, identity] of this.#identities) {
      this.#identities.delete(hex);
      if (this.#rowOfHex(hex) >= 0) this.#identities.set(hex, identity);
      else if (--surplus === 0) return;
    }
  }

  #rowOfHex(hex) {
    return this.rowOfKey(parseInt(hex.slice(8), 16), parseInt(hex.slice(0, 8), 16));
  }

  #home(keyLo, keyHi) {
    // The upper bits of the sum, as many as the table has places: all bits of both halves count there.
    const mixed = Math.imul(keyLo, this.#factorLo) + Math.imul(keyHi, this.#factorHi);
    return mixed >>> (Math.clz32(this.#rows.length) + 1);
  }

  #insert(keyLo, keyHi) {
    const row = this.size;
    reserve(this, row + 1);
    this.keyLo[row] = keyLo;
    this.keyHi[row] = keyHi;
    this.#identityOf[row] = this.#identities.get(hexOf(keyLo, keyHi)) ?? null;
    this.size += 1;
    this.#sizeMax = Math.max(this.#sizeMax, this.size);
    // Half full at most.
    if (2 * this.size <= this.#rows.length) {
      this.#point(row);
    } else {
      this.#rows = emptyTable(2 * this.#rows.length);
      for (let each = 0; each < this.size; each++) this.#point(each);
    }
    return row;
  }

  #point(row) {
    const rows = this.#rows;
    let at = this.#home(this.keyLo[row], this.keyHi[row]);
    while (rows[at] >= 0) at = (at + 1) & (rows.length - 1);
    rows[at] = row;
  }

  #place(row) {
    const rows = this.#rows;
    let at = this.#home(this.keyLo[row], this.keyHi[row]);
    while (rows[at] !== row) at = (at + 1) & (rows.length - 1);
    return at;
  }

  #remove(row) {
    const rows = this.#rows;
    const mask = rows.length - 1;
    let hole = this.#place(row);
    rows[hole] = -1;
    // Who was displaced beyond the hole moves up, so that a search may end at the first empty place.
    for (let at = (hole + 1) & mask; rows[at] >= 0; at = (at + 1) & mask) {
      const home = this.#home(this.keyLo[rows[at]], this.keyHi[rows[at]]);
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        rows[hole] = rows[at];
        rows[at] = -1;
        hole = at;
      }
    }
    const last = this.size - 1;
    if (row !== last) {
      rows[this.#place(last)] = row;
      copyRow(this, row, this, last);
      this.#identityOf[row] = this.#identityOf[last];
    }
    this.#identityOf.length = last;
    this.size = last;
  }
}

function emptyTable(places) {
  return new Int32Array(places).fill(-1);
}

function oddFactor() {
  return Math.floor(Math.random() * 2 ** 32) | 1;
}

// -------------------------------------------------------------------------------------------- positions to send

const MSG_CNT_OFFSET = HEADER_BYTES + 31;

/** The message of a vehicle: its position, as section 12 of the protocol describes it. Throws a RingroadError. */
export function encodePosition(vehicleKey, position) {
  const { lat, lon, ts } = position;
  if (!(lat >= -90 && lat <= 90)) throw new RingroadError('invalid_state', 'lat must be a number from -90 to 90');
  if (!(lon >= -180 && lon <= 180)) throw new RingroadError('invalid_state', 'lon must be a number from -180 to 180');
  if (ts != null && !(ts >= 0 && ts <= Number.MAX_SAFE_INTEGER)) {
    throw new RingroadError('invalid_state', 'ts must be milliseconds since 1970');
  }
  const message = new Uint8Array(HEADER_BYTES + RECORD_BYTES);
  const view = new DataView(message.buffer);
  message.set([VERSION, STATES_KIND, RECORD_BYTES, 0, 1]);
  view.setBigUint64(16, vehicleKey, true);
  view.setInt32(24, rounded(lat * 1e7), true);
  // Half a turn has one name.
  view.setInt32(28, rounded(lon * 1e7) === -1_800_000_000 ? 1_800_000_000 : rounded(lon * 1e7), true);
  view.setUint16(32, scaled(position.elevation, 10, -4095, 61_439, -4096) + 4096, true);
  const transmission = [0, 1, 2, 3].includes(position.transmission) ? position.transmission : 7;
  view.setUint16(34, scaled(position.speed, 50, 0, 8190, 8191) | (transmission << 13), true);
  view.setUint16(36, heading80(position.heading), true);
  view.setInt16(38, scaled(position.yawRate, 100, -32_767, 32_767, -32_768), true);
  view.setInt16(40, scaled(position.acceleration, 100, -2000, 2000, 2001), true);
  view.setUint16(42, 65_535, true);
  view.setUint16(44, (position.eventFlags ?? 0) & 0x1fff, true);
  message[46] = scaled(position.accuracy, 20, 0, 254, 255);
  if (ts != null) setTime(message, ts);
  return message;
}

function setTime(message, unixMs) {
  const view = new DataView(message.buffer);
  view.setBigUint64(8, BigInt(Math.trunc(unixMs)), true);
  view.setUint16(42, Math.trunc(unixMs) % 60_000, true);
}

/** To wire units. What is not there, or not a number, is unavailable, and only that becomes the sentinel. */
function scaled(value, perUnit, least, most, unavailable) {
  if (value == null || Number.isNaN(value)) return unavailable;
  return Math.min(Math.max(rounded(value * perUnit), least), most);
}

function heading80(degrees) {
  if (degrees == null || !Number.isFinite(degrees)) return 28_800;
  return rounded(((degrees % 360) + 360) % 360 * 80) % 28_800;
}

/** Halves away from zero, as the gateway rounds. */
function rounded(value) {
  return Math.sign(value) * Math.round(Math.abs(value));
}

// ----------------------------------------------------------------------------------------------- the connection

const SUBPROTOCOL = 'ringroad.v1';

/** Close codes after which another attempt would end like the last: section 6 of the protocol. */
const FINAL_CODES = new Set([1002, 1007, 1008, 4001]);
const ABNORMAL = 1006;
/** The gateway ends: this one says 1012, and others say 1001. */
const SHUTDOWN_CODES = new Set([1001, 1012]);

/** Names of what this client says itself; a gateway's event of such a name is not passed on. */
const OWN_EVENTS = new Set(['states', 'gone', 'open', 'close', 'reconnecting']);

/** What a new connection is told again. */
const REMEMBERED_EVENTS = new Set(['register', 'view', 'near', 'follow']);

/** Events that wait to be sent, and the most characters of one: no gateway takes more bytes unless told to. */
const EVENTS_WAITING_MAX = 64;
const EVENT_CHARACTERS_MAX = 64 * 1024;

/** While the socket holds more than this, nothing is added: a position that waits here is replaced by a newer one. */
const UNSENT_BYTES_MAX = 16 * 1024;
const UNSENT_LOOK_MS = 50;

/** Between two changes of what is watched; a gateway takes 10 per second. */
const WATCH_MS = 125;

/** A position without a time that waited longer than this says when it was taken. */
const POSITION_WAITED_MS = 1_000;

const CONNECT_MS_MAX = 10_000;

const defaultClock = {
  nowMs: () => performance.now(),
  unixMs: () => Date.now(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  random: () => Math.random(),
};

/** A connection to a gateway that is made anew when it is lost. */
export class Ringroad {
  vehicles = new Vehicles();
  #url;
  #WebSocket;
  #clock;
  #backoff;
  #heartbeat;
  #positionMs;
  #authToken;
  #listeners = new Map();

  #state = 'closed';
  #socket = null;
  #attempt = 0;
  #openedMs = 0;
  #heardMs = 0;
  /** The gateway has said when it will close this connection. */
  #isSentAway = false;
  #askedMs = null;
  #livenessTimer;
  #sendTimer;
  #frame = new StateFrame();
  #gone = (vehicle) => this.#emit('gone', vehicle);

  #registration = null;
  #key = 0n;
  #msgCnt = 0;
  #position = null;
  #positionDueMs = 0;
  #events = [];

  /** What is to be watched, by `area` and `list`; the newest is last, and its `maxHz` decides. */
  #wishes = new Map();
  /** What the gateway has granted of that. */
  #granted = new Map();
  /** Which of the wishes are still to be sent. */
  #wishesDue = new Set();
  #wishesDueMs = 0;
  /** Those that were sent and not answered, in order: [`area` or `list`, wish]. */
  #wishesAsked = [];

  constructor(url, options = {}) {
    this.#url = url;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!this.#WebSocket) throw new RingroadError('no_websocket', 'no WebSocket here: give one in the options');
    this.#clock = options.clock ?? defaultClock;
    this.#backoff = { baseMs: 500, capMs: 30_000, stableMs: 10_000, shutdownMs: 5_000, ...options.backoff };
    this.#heartbeat = { silentMs: 20_000, answerMs: 10_000, ...options.heartbeat };
    this.#positionMs = options.positionMs ?? 200;
    this.#authToken = options.authToken;
    const terms = { maxHz: options.maxHz };
    if (options.register) this.register(options.register);
    if (options.view) this.view(options.view, terms);
    if (options.near != null) this.near(options.near, terms);
    if (options.follow) this.follow(options.follow, terms);
    this.open();
  }

  /** `closed`, `connecting`, `open`, or `waiting` for the next attempt. */
  get state() {
    return this.#state;
  }

  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => this.off(name, listener);
  }

  off(name, listener) {
    this.#listeners.get(name)?.delete(listener);
  }

  register(registration) {
    const vehicleKey = key(registration.vehicleId);
    if (this.#registration && this.#registration.vehicleId !== registration.vehicleId) {
      throw new RingroadError('invalid_register', 'a connection cannot change to another vehicle');
    }
    this.#registration = { ...registration };
    this.#key = vehicleKey;
    if (this.#isWritable()) this.#sendRegistration();
  }

  position(position) {
    this.#ownId();
    const message = encodePosition(this.#key, position);
    this.#position = { message, isTimed: position.ts != null, takenMs: this.#clock.nowMs() };
    this.#flush();
  }

  message(to, text) {
    return this.#queue('send_message', { senderId: this.#ownId(), recipientId: to, content: text });
  }

  emergency(vehicleInfo) {
    return this.#queue('emergency_alert', { senderId: this.#ownId(), vehicleInfo });
  }

  send(event, data) {
    if (REMEMBERED_EVENTS.has(event)) {
      throw new RingroadError('validation_error', `${event} has a method of its own: a new connection repeats it`);
    }
    return this.#queue(event, data);
  }

  #queue(event, data) {
    const text = JSON.stringify({ event, data });
    if (text.length > EVENT_CHARACTERS_MAX) return this.#refuse('too_large', `${event} is too long`, { event });
    if (this.#events.length >= EVENTS_WAITING_MAX) {
      return this.#refuse('buffer_full', `${event} was not sent: too many events wait`, { event });
    }
    this.#events.push(text);
    this.#flush();
    return true;
  }

  view(edges, terms) {
    const { south, west, north, east } = edges ?? {};
    // JSON has no NaN: what is not a number would end the view.
    if (edges && ![south, west, north, east].every(Number.isFinite)) {
      throw new RingroadError('invalid_view', 'south, west, north and east must be degrees');
    }
    this.#wish('area', 'view', { south, west, north, east }, !edges, terms);
  }

  near(radiusM, terms) {
    if (radiusM != null) {
      this.#ownId();
      if (!(radiusM > 0)) throw new RingroadError('invalid_view', 'radiusM must be metres, more than 0');
    }
    this.#wish('area', 'near', { radiusM: radiusM ?? undefined }, radiusM == null, terms);
  }

  follow(vehicleIds, terms) {
    const ids = [...vehicleIds];
    this.#wish('list', 'follow', { vehicleIds: ids }, ids.length === 0, terms);
  }

  /** Connects now, also after a close that was final. */
  open() {
    if (this.#socket) return;
    if (this.#state === 'closed') this.#attempt = 0;
    this.#clearTimers();
    const socket = new this.#WebSocket(this.#url, SUBPROTOCOL);
    socket.binaryType = 'arraybuffer';
    // A socket that was given up may still speak; it is not listened to.
    const ifCurrent = (act) => (event) => this.#socket === socket && act(event);
    socket.onopen = ifCurrent(() => this.#opened());
    socket.onmessage = ifCurrent(({ data }) => this.#heard(data));
    socket.onclose = ifCurrent(({ code, reason }) => this.#lost(code, reason));
    // Not every WebSocket says `close` when it could not connect.
    socket.onerror = ifCurrent(() => this.#lost(ABNORMAL, ''));
    this.#socket = socket;
    this.#state = 'connecting';
    this.#livenessTimer = this.#clock.setTimeout(() => this.#giveUp('no answer to the handshake'), CONNECT_MS_MAX);
  }

  /** Ends the connection and all attempts. */
  close() {
    if (this.#state === 'closed') return;
    const socket = this.#socket;
    this.#forgetSocket();
    this.#state = 'closed';
    this.#events.length = 0;
    this.#position = null;
    socket?.close(1000);
    this.#emit('close', { code: 1000, reason: '', final: true });
  }

  #opened() {
    if (this.#socket.protocol !== SUBPROTOCOL) {
      this.#refuse('no_subprotocol', `the gateway does not speak ${SUBPROTOCOL}`);
      this.#giveUp(`not ${SUBPROTOCOL}`, true);
      return;
    }
    this.#clock.clearTimeout(this.#livenessTimer);
    this.#state = 'open';
    this.#openedMs = this.#heardMs = this.#clock.nowMs();
    this.#isSentAway = false;
    this.#vehiclesAnew();
    if (this.#registration) this.#sendRegistration();
    this.#flush();
    this.#watchLiveness();
    this.#emit('open');
  }

  /** A new connection knows nothing of the last: neither who was in view nor what was watched. */
  #vehiclesAnew() {
    this.vehicles.clear();
    this.#granted.clear();
    this.#wishesAsked.length = 0;
    this.#wishesDueMs = 0;
    for (const [place, wish] of this.#wishes) if (wish.isEnd) this.#wishes.delete(place);
    this.#wishesDue = new Set(this.#wishes.keys());
  }

  #lost(code, reason, isFinal = FINAL_CODES.has(code)) {
    const wasStable = this.#state === 'open' && this.#clock.nowMs() - this.#openedMs >= this.#backoff.stableMs;
    if (wasStable) this.#attempt = 0;
    this.#forgetSocket();
    this.#state = isFinal ? 'closed' : 'waiting';
    this.#emit('close', { code, reason, final: isFinal });
    // Whoever heard that may have closed, or opened.
    if (this.#state === 'waiting') this.#reconnect(code);
  }

  /** Full jitter: vehicles that lost a gateway together do not come back together. */
  #reconnect(code) {
    const { baseMs, capMs, shutdownMs } = this.#backoff;
    const mostMs = Math.min(capMs, baseMs * 2 ** this.#attempt);
    // A gateway that drains has given each its own moment, so nobody need wait again.
    const isCrowd = SHUTDOWN_CODES.has(code) && !this.#isSentAway;
    const delayMs = this.#clock.random() * (isCrowd ? Math.max(mostMs, shutdownMs) : mostMs);
    this.#attempt += 1;
    this.#livenessTimer = this.#clock.setTimeout(() => this.open(), delayMs);
    this.#emit('reconnecting', { attempt: this.#attempt, delayMs });
  }

  #giveUp(why, isFinal = false) {
    const socket = this.#socket;
    this.#lost(ABNORMAL, why, isFinal);
    socket.close();
  }

  #forgetSocket() {
    this.#clearTimers();
    this.#socket = null;
    this.#askedMs = null;
  }

  #clearTimers() {
    this.#clock.clearTimeout(this.#livenessTimer);
    this.#clock.clearTimeout(this.#sendTimer);
  }

  /** Pings are answered where scripts do not see them, so a silent link is asked in words. */
  #watchLiveness() {
    const { silentMs, answerMs } = this.#heartbeat;
    const nowMs = this.#clock.nowMs();
    if (this.#askedMs !== null && this.#heardMs < this.#askedMs) {
      if (nowMs - this.#askedMs >= answerMs) return this.#giveUp('silent');
    } else {
      this.#askedMs = null;
      if (nowMs - this.#heardMs >= silentMs) {
        this.#askedMs = nowMs;
        this.#socket.send('{"event":"heartbeat"}');
      }
    }
    const dueMs = this.#askedMs === null ? this.#heardMs + silentMs : this.#askedMs + answerMs;
    this.#livenessTimer = this.#clock.setTimeout(() => this.#watchLiveness(), dueMs - nowMs);
  }

  #heard(data) {
    this.#heardMs = this.#clock.nowMs();
    try {
      if (typeof data === 'string') this.#heardEvent(data);
      else this.#heardFrame(data);
    } catch (error) {
      if (!(error instanceof RingroadError)) throw error;
      this.#refuse(error.code, error.message);
    }
  }

  #heardFrame(data) {
    const frame = this.#frame;
    if (!frame.read(data)) return;
    this.vehicles.apply(frame, this.#gone);
    this.#emit('states', frame);
  }

  #heardEvent(text) {
    const { event, data } = parsed(text);
    if (event === 'vehicle_identity') this.vehicles.identify(data);
    else if (event === 'watching') this.#heardWatching(data);
    else if (event === 'server_shutdown') this.#isSentAway = true;
    else if (event === 'token_expiring') this.#renewToken();
    else if (event === 'error' && this.#heardError(data)) return;
    if (!OWN_EVENTS.has(event)) this.#emit(event, data);
  }

  /** Shows a newer token, if there is a way to have one, by saying again what the older one was shown with. */
  #renewToken() {
    if (typeof this.#authToken !== 'function' || this.#registration?.authToken) return;
    if (this.#registration) {
      this.#sendRegistration();
      return;
    }
    const [place] = this.#wishes.keys();
    if (!place) return;
    this.#wishesDue.add(place);
    this.#flush();
  }

  #heardWatching(data) {
    this.vehicles.watching(data);
    const [place, wish] = this.#wishesAsked.shift() ?? [];
    if (place) {
      this.#granted.delete(place);
      this.#granted.set(place, wish);
    }
    this.#settleWishes();
  }

  /** Whether the error is dealt with. */
  #heardError({ code, details }) {
    if (code === 'view_too_large' || code === 'invalid_view') {
      this.#wishesAsked.shift();
      this.#settleWishes();
    } else if (code === 'rate_limited' && REMEMBERED_EVENTS.has(details?.event)) {
      const [place] = this.#wishesAsked.shift() ?? [];
      if (place) this.#wishesDue.add(place);
      this.#wishesDueMs = this.#clock.nowMs() + (Number(details.retryAfterMs) || WATCH_MS);
      this.#flush();
      return true;
    } else if (code === 'auth_failed') {
      // It may still be granted, to a newer token.
      this.#wishesAsked.shift();
    }
    return false;
  }

  /** What was refused will not be asked for again: the gateway keeps what it granted before, and so does this. */
  #settleWishes() {
    if (this.#wishesAsked.length === 0 && this.#wishesDue.size === 0) this.#wishes = new Map(this.#granted);
  }

  #wish(place, event, data, isEnd, terms) {
    this.#wishes.delete(place);
    this.#wishes.set(place, { event, data: { ...data, maxHz: terms?.maxHz }, isEnd });
    this.#wishesDue.delete(place);
    this.#wishesDue.add(place);
    this.#flush();
  }

  #sendRegistration() {
    this.#sendNow('register', { ...this.#registration, authToken: this.#registration.authToken ?? this.#token() });
  }

  #sendNow(event, data) {
    this.#socket.send(JSON.stringify({ event, data }));
  }

  #token() {
    return typeof this.#authToken === 'function' ? this.#authToken() : this.#authToken;
  }

  #ownId() {
    if (!this.#registration) throw new RingroadError('not_registered', 'register first');
    return this.#registration.vehicleId;
  }

  #isWritable() {
    return this.#state === 'open' && this.#socket.readyState === 1;
  }

  /** Sends what is due, and comes back for the rest. */
  #flush() {
    if (!this.#isWritable()) return;
    const socket = this.#socket;
    const nowMs = this.#clock.nowMs();
    const isFull = () => socket.bufferedAmount > UNSENT_BYTES_MAX;
    const isDue = (dueMs) => nowMs >= dueMs && !isFull();
    if (this.#wishesDue.size > 0 && isDue(this.#wishesDueMs)) this.#sendWishes(nowMs);
    while (this.#events.length > 0 && !isFull()) socket.send(this.#events.shift());
    if (this.#position && isDue(this.#positionDueMs)) this.#sendPosition(nowMs);

    const waits = [];
    if (this.#wishesDue.size > 0) waits.push(this.#wishesDueMs - nowMs);
    if (this.#position) waits.push(this.#positionDueMs - nowMs);
    if (this.#events.length > 0) waits.push(UNSENT_LOOK_MS);
    this.#clock.clearTimeout(this.#sendTimer);
    if (waits.length === 0) return;
    const waitMs = Math.max(Math.min(...waits), isFull() ? UNSENT_LOOK_MS : 0);
    this.#sendTimer = this.#clock.setTimeout(() => this.#flush(), waitMs);
  }

  #sendWishes(nowMs) {
    // Who drives has shown a token at the registration.
    const authToken = this.#registration ? undefined : this.#token();
    this.#wishesDueMs = nowMs + WATCH_MS * this.#wishesDue.size;
    for (const place of this.#wishesDue) {
      const wish = this.#wishes.get(place);
      this.#sendNow(wish.event, { ...wish.data, authToken });
      this.#wishesAsked.push([place, wish]);
    }
    this.#wishesDue.clear();
  }

  #sendPosition(nowMs) {
    const { message, isTimed, takenMs } = this.#position;
    const waitedMs = nowMs - takenMs;
    if (!isTimed && waitedMs > POSITION_WAITED_MS) setTime(message, this.#clock.unixMs() - waitedMs);
    message[MSG_CNT_OFFSET] = this.#msgCnt;
    this.#msgCnt = (this.#msgCnt + 1) % 128;
    this.#socket.send(message);
    this.#position = null;
    this.#positionDueMs = nowMs + this.#positionMs;
  }

  #refuse(code, message, details) {
    this.#emit('error', { code, message, ts: this.#clock.unixMs(), details });
    return false;
  }

  #emit(name, data) {
    const listeners = this.#listeners.get(name);
    if (name === 'error' && !listeners?.size) console.warn(`ringroad: ${data.code}: ${data.message}`);
    for (const listener of listeners ?? []) {
      try {
        listener(data);
      } catch (error) {
        // It is the listener's, and is reported as such; what is heard here must be taken in whole.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

function parsed(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new RingroadError('invalid_message', 'not JSON');
  }
  const isEvent = typeof message?.event === 'string' && typeof message.data === 'object' && message.data !== null;
  if (!isEvent) throw new RingroadError('invalid_message', 'not {"event": NAME, "data": {…}}');
  return message;
}
