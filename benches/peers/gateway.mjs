// What a server does with what it hears, for servers of plain WebSockets. How bytes get to a connection is theirs.

import { Near } from './near.mjs';
import {
  RADIUS_M, connected, emergencyAlert, error, peerLocation, wrongInAlert, wrongInLocation, wrongInRegister,
} from './protocol.mjs';

/** A connection, and the vehicle that it registered. `socket` is the server's; `cell` and `slot` are the index's. */
export class Conn {
  vehicleId = null;
  lat = 0;
  lon = 0;
  cell = null;
  slot = 0;
  /** What it is owed at the end of the tick. */
  waiting = [];

  constructor(socket) {
    this.socket = socket;
  }
}

/**
 * `shell` has `prepare(text)`: what of an event all its receivers share; `send(conn, prepared)`;
 * `everyone(prepared)`, to each connection that was opened; `close(conn, code, reason)`.
 */
export class Gateway {
  #shell;
  #near = new Near(RADIUS_M);
  /** Vehicle id to connection. */
  #vehicles = new Map();

  constructor(shell) {
    this.#shell = shell;
  }

  opened(conn) {
    this.#tell(conn, 'connected', connected());
  }

  heard(conn, text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#refuse(conn, 'invalid_json', 'not JSON');
    }
    const data = message?.data;
    switch (message?.event) {
      case 'location_update':
        return this.#moved(conn, data);
      case 'heartbeat':
        return this.#tell(conn, 'heartbeat_ack', { ts: Date.now() });
      case 'register':
        return this.#registered(conn, data);
      case 'emergency_alert':
        return this.#alerted(conn, data);
      default:
        return this.#refuse(conn, 'unknown_event', 'no such event');
    }
  }

  closed(conn) {
    this.#near.remove(conn);
    if (this.#vehicles.get(conn.vehicleId) === conn) this.#vehicles.delete(conn.vehicleId);
  }

  #moved(conn, data) {
    const wrong = wrongInLocation(data);
    if (wrong !== null) return this.#refuse(conn, 'invalid_location', wrong);
    if (conn.vehicleId === null) return this.#refuse(conn, 'not_registered', 'register first');
    if (data.vehicleId !== conn.vehicleId) return this.#refuse(conn, 'not_yours', 'vehicleId');
    this.#near.move(conn, data.lat, data.lon);
    const found = this.#near.around(conn);
    if (found.length === 0) return;
    // Encoded once, whoever receives it.
    const shell = this.#shell;
    const prepared = shell.prepare(JSON.stringify({ event: 'peer_location', data: peerLocation(data) }));
    for (let index = 0; index < found.length; index += 1) shell.send(found[index], prepared);
  }

  #registered(conn, data) {
    const wrong = wrongInRegister(data);
    if (wrong !== null) return this.#refuse(conn, 'invalid_register', wrong);
    const { vehicleId } = data;
    if (conn.vehicleId !== null && conn.vehicleId !== vehicleId) {
      return this.#refuse(conn, 'invalid_register', 'this connection is another vehicle');
    }
    const former = this.#vehicles.get(vehicleId);
    if (former !== undefined && former !== conn) {
      this.#near.remove(former);
      // What it still says is not heard as this vehicle's.
      former.vehicleId = null;
      this.#shell.close(former, 4001, 'replaced');
    }
    conn.vehicleId = vehicleId;
    this.#vehicles.set(vehicleId, conn);
    this.#tell(conn, 'registered', { vehicleId });
  }

  #alerted(conn, data) {
    const wrong = wrongInAlert(data);
    if (wrong !== null) return this.#refuse(conn, 'validation_error', wrong);
    if (conn.vehicleId === null) return this.#refuse(conn, 'not_registered', 'register first');
    if (data.senderId !== conn.vehicleId) return this.#refuse(conn, 'not_yours', 'senderId');
    this.#shell.everyone(this.#shell.prepare(JSON.stringify({ event: 'emergency_alert', data: emergencyAlert(data) })));
  }

  #tell(conn, event, data) {
    this.#shell.send(conn, this.#shell.prepare(JSON.stringify({ event, data })));
  }

  #refuse(conn, code, message) {
    this.#tell(conn, 'error', error(code, message));
  }
}
