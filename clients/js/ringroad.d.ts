// Types of ringroad.js. Units are those of docs/PROTOCOL.md: degrees, metres, seconds; times are Unix milliseconds.

/**
 * What is wrong. `code` is one of section 5 of the protocol, or one of this client's own: `invalid_frame` and
 * `invalid_message` (the gateway said something that it should not), `buffer_full` and `too_large` (an event was not
 * sent), `no_subprotocol` (whoever answers does not speak `ringroad.v1`), `no_websocket`.
 */
export class RingroadError extends Error {
  constructor(code: string, message: string);
  code: string;
}

/** The key of a vehicle: XXH3-64 of its id, seed 0. */
export function key(vehicleId: string): bigint;

/** A record's flag: the vehicle has left the view. */
export const GONE: number;

/** A record's flag: the vehicle has raised an alert within the last 60 s before the state. */
export const EMERGENCY: number;

/** States in columns, NaN where unavailable. Columns are longer than what is in them, and replaced as they grow. */
interface States {
  keyLo: Uint32Array;
  keyHi: Uint32Array;
  /** Degrees. */
  lat: Float64Array;
  lon: Float64Array;
  /** When it was measured, Unix ms. */
  ts: Float64Array;
  /** Metres. */
  elevation: Float32Array;
  /** Metres per second. */
  speed: Float32Array;
  /** Degrees clockwise from north. */
  heading: Float32Array;
  /** Degrees per second, to the right positive. */
  yawRate: Float32Array;
  /** Along the vehicle, m/s². */
  acceleration: Float32Array;
  /** Metres; 12.7 means that and more. */
  accuracy: Float32Array;
  /** SAE J2735 VehicleEventFlags in the lower 13 bits, EMERGENCY and GONE above. */
  flags: Uint16Array;
  /** 0 neutral, 1 park, 2 forward, 3 reverse, 7 unavailable. */
  transmission: Uint8Array;
  msgCnt: Uint8Array;
  key(row: number): bigint;
  /** As in `vehicle_identity`: 16 hexadecimal digits. */
  keyHex(row: number): string;
}

/** A state frame: rows 0 to `count` - 1. */
export class StateFrame implements States {
  count: number;
  /** That of the newest `watching`, modulo 65,536. */
  epoch: number;
  /** The gateway's time. */
  baseMs: number;
  /** With this frame, everything in view has been sent. */
  complete: boolean;
  /** Vehicles far from the middle are sent less often. */
  tiered: boolean;
  /** There are more vehicles than are sent. */
  cut: boolean;
  /** Reads a binary message. False: its kind is not known, and nothing changed. Throws a RingroadError. */
  read(message: ArrayBuffer | ArrayBufferView): boolean;
}
export interface StateFrame extends States {}

export interface VehicleInfo {
  licensePlate?: string;
  model?: string;
  color?: string;
}

export interface Identity {
  vehicleId: string;
  driverName: string;
  vehicleInfo: VehicleInfo;
}

/** A row as an object. Who it is is null while the gateway has not said. */
export interface Vehicle {
  vehicleId: string | null;
  driverName: string | null;
  vehicleInfo: VehicleInfo | null;
  key: string;
  lat: number;
  lon: number;
  ts: number;
  elevation: number;
  speed: number;
  heading: number;
  yawRate: number;
  acceleration: number;
  accuracy: number;
  flags: number;
  transmission: number;
  msgCnt: number;
}

export interface Gone {
  key: string;
  vehicleId: string | null;
}

/** The latest state of every vehicle in view: rows 0 to `size` - 1. A row may be another's after the next frame. */
export class Vehicles implements States, Iterable<Vehicle> {
  size: number;
  /** The newest `watching`, modulo 65,536. */
  epoch: number;
  /** Everything that was in view at the newest `watching` has arrived. */
  complete: boolean;
  tiered: boolean;
  cut: boolean;
  has(vehicleId: string): boolean;
  get(vehicleId: string): Vehicle | undefined;
  /** The row of a vehicle, or -1. */
  row(vehicleId: string): number;
  rowOfKey(keyLo: number, keyHi: number): number;
  at(row: number): Vehicle;
  identity(row: number): Identity | null;
  [Symbol.iterator](): IterableIterator<Vehicle>;
  /** Takes in a frame; `gone` hears of each vehicle that left with it. A Ringroad does this itself, as what follows. */
  apply(frame: StateFrame, gone?: (vehicle: Gone) => void): void;
  watching(data: Pick<Watching, 'epoch' | 'cut'>): void;
  identify(data: Identity & { key: string }): void;
  clear(): void;
}
export interface Vehicles extends States {}

/** What a vehicle says of itself. Nothing, null and NaN are all unavailable, as in a GeolocationCoordinates. */
export interface Position {
  lat: number;
  lon: number;
  ts?: number | null;
  elevation?: number | null;
  speed?: number | null;
  heading?: number | null;
  yawRate?: number | null;
  acceleration?: number | null;
  accuracy?: number | null;
  transmission?: number | null;
  /** SAE J2735 VehicleEventFlags, 13 bits. */
  eventFlags?: number | null;
}

/** The 48 bytes of a vehicle's message, with msgCnt 0. Throws a RingroadError. */
export function encodePosition(vehicleKey: bigint, position: Position): Uint8Array;

export interface Registration {
  vehicleId: string;
  driverName: string;
  vehicleInfo?: VehicleInfo;
  authToken?: string;
}

export interface Edges {
  south: number;
  /** West beyond east is an area across the antimeridian. */
  west: number;
  north: number;
  east: number;
}

/** The newest of `view`, `near` and `follow` decides how often positions come. */
export interface Terms {
  maxHz?: number;
}

export interface Watching {
  epoch: number;
  vehicles: number;
  cut: boolean;
  view: Edges | null;
  nearM: number | null;
  follow: number;
}

/** The gateway's `error` event, or this client's own. */
export interface Failure {
  code: string;
  message: string;
  ts: number;
  details?: Record<string, unknown>;
}

/** What `on` can listen to: the gateway's events by their names, and below them this client's. */
export interface Events {
  connected: { ts: number; sessionId: string };
  registered: { vehicleId: string };
  heartbeat_ack: { ts: number };
  /** The gateway ends, and closes this connection after so long. The client comes back by itself. */
  server_shutdown: { reconnectInMs: number; ts: number };
  /** A newer token is shown by itself where `authToken` is a function. */
  token_expiring: { expiresAt: number; expiresInMs: number };
  presence_update: { vehicleId: string; status: 'online' | 'offline' | 'timeout'; lastSeen: number };
  proximity_event: {
    id: string;
    vehicleId: string;
    peerVehicleId: string;
    eventType: 'enter' | 'exit';
    distanceM: number | null;
    ts: number;
  };
  nearby_vehicles: {
    vehicles: { vehicleId: string; driverName: string; distance: number; model?: string; color?: string }[];
    radius: number;
  };
  receive_message: {
    id: string;
    senderId: string;
    recipientId: string;
    content: string;
    ts: number;
    via?: 'radio';
  };
  emergency_alert: {
    id: string;
    senderId: string;
    vehicleInfo: Record<string, unknown> | null;
    ts: number;
    via?: 'radio';
  };
  radio_text: { from: string; content: string };
  watching: Watching;
  vehicle_identity: Identity & { key: string };
  error: Failure;

  /** A frame has been taken into `vehicles`. Its columns are those of the next one too: copy what is to stay. */
  states: StateFrame;
  /** A vehicle has left the view. */
  gone: Gone;
  /** The connection stands; `vehicles` is empty, and what was registered and watched before has been asked for. */
  open: undefined;
  /** The connection has ended; `final`: no other will be made. What was in view stays in `vehicles` until `open`. */
  close: { code: number; reason: string; final: boolean };
  /** Another attempt follows in `delayMs`. */
  reconnecting: { attempt: number; delayMs: number };
}

/** Where times and chance come from. */
export interface Clock {
  nowMs(): number;
  unixMs(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 up to 1. */
  random(): number;
}

export interface Options extends Terms {
  register?: Registration;
  view?: Edges;
  near?: number;
  follow?: Iterable<string>;
  /** Of a viewer, and of a registration that has none itself. A function is asked at each connection. */
  authToken?: string | (() => string);
  /** Where there is no global WebSocket: a class like it. */
  WebSocket?: new (url: string, protocol: string) => any;
  /**
   * The wait before attempt n is random up to min(capMs, baseMs × 2^n), and after `shutdown` up to shutdownMs at
   * least, unless the gateway had said when (`server_shutdown`): it has spread the fleet then. n is 0 again after a connection of stableMs.
   */
  backoff?: { baseMs?: number; capMs?: number; stableMs?: number; shutdownMs?: number };
  /** A link that is silent for silentMs is asked, and given up if it does not answer within answerMs. */
  heartbeat?: { silentMs?: number; answerMs?: number };
  /** Positions are sent at least so far apart (200): of those between, the newest. */
  positionMs?: number;
  clock?: Clock;
}

/** A connection to a gateway, made anew with growing pauses when it is lost. */
export class Ringroad {
  constructor(url: string, options?: Options);
  readonly vehicles: Vehicles;
  readonly state: 'closed' | 'connecting' | 'open' | 'waiting';

  /** Listens; call what is returned to stop. */
  on<Name extends keyof Events>(name: Name, listener: (data: Events[Name]) => void): () => void;
  /** What vehicles send each other: the data is theirs. */
  on<Name extends string>(
    name: Name extends keyof Events ? never : Name,
    listener: (data: any) => void,
  ): () => void;
  off(name: string, listener: (data: any) => void): void;

  /** Binds this and every later connection to a vehicle. */
  register(registration: Registration): void;
  /** Sends where the vehicle is; while that cannot be, the newest waits. Throws if it is not registered or on Earth. */
  position(position: Position): void;
  /** Text to another vehicle. Like `emergency` and `send` false if too much waits already; then an `error` says so. */
  message(to: string, text: string): boolean;
  /** An alert to everyone. */
  emergency(vehicleInfo?: Record<string, unknown>): boolean;
  /** Any other event. What waits while there is no connection is sent with the next. */
  send(event: string, data?: object): boolean;

  /** An area to watch, instead of the one before; null ends that. */
  view(edges: Edges | null, terms?: Terms): void;
  /** What is within so many metres of the own vehicle, instead of an area; null ends that. */
  near(radiusM: number | null, terms?: Terms): void;
  /** Vehicles to watch wherever they are, instead of those before. */
  follow(vehicleIds: Iterable<string>, terms?: Terms): void;

  /** Connects now rather than later, also after a close that was final. */
  open(): void;
  /** Ends the connection and all attempts; what waits to be sent is dropped. */
  close(): void;
}
