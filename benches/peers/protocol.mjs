// What the peers understand of docs/PROTOCOL.md, and how they say it. Objects in and out; text is the servers' part.

import { randomUUID } from 'node:crypto';

export const RADIUS_M = 500;
export const PATH = '/v2v';
/** Longest message that a client may send, bytes. */
export const MESSAGE_BYTES_MAX = 64 * 1024;
/** Unsent bytes at which a connection is given up. */
export const UNSENT_BYTES_MAX = 1024 * 1024;
/** A connection is pinged, and closed if nothing came since the ping before. */
export const PING_MS = 25_000;

const VEHICLE_ID = /^[A-Za-z0-9._-]{3,40}$/;

/** What is wrong with the data of a `register`, or null. */
export function wrongInRegister(data) {
  if (!isObject(data)) return 'data';
  if (typeof data.vehicleId !== 'string' || !VEHICLE_ID.test(data.vehicleId)) return 'vehicleId';
  const name = data.driverName;
  if (typeof name !== 'string' || name.length === 0 || name.length > 64) return 'driverName';
  if (data.vehicleInfo != null && !isObject(data.vehicleInfo)) return 'vehicleInfo';
  return null;
}

/** Likewise of a `location_update`. */
export function wrongInLocation(data) {
  if (!isObject(data)) return 'data';
  if (!(isNumber(data.lat) && data.lat >= -90 && data.lat <= 90)) return 'lat';
  if (!(isNumber(data.lon) && data.lon >= -180 && data.lon <= 180)) return 'lon';
  if (data.speed != null && !(isNumber(data.speed) && data.speed >= 0)) return 'speed';
  if (data.heading != null && !(isNumber(data.heading) && data.heading >= -360)) return 'heading';
  if (data.elevation != null && !isNumber(data.elevation)) return 'elevation';
  if (data.accuracy != null && !(isNumber(data.accuracy) && data.accuracy >= 0)) return 'accuracy';
  if (data.ts != null && !(isNumber(data.ts) && data.ts >= 0)) return 'ts';
  return null;
}

export function wrongInAlert(data) {
  if (!isObject(data)) return 'data';
  return data.vehicleInfo == null || isObject(data.vehicleInfo) ? null : 'vehicleInfo';
}

export function connected() {
  return { ts: Date.now(), sessionId: randomUUID() };
}

export function peerLocation({ vehicleId, lat, lon, ts, speed, heading, elevation, accuracy }) {
  // What is undefined is not written.
  return {
    vehicleId,
    lat,
    lon,
    ts: ts ?? Date.now(),
    coalesced: true,
    speed: speed ?? undefined,
    heading: heading ?? undefined,
    elevation: elevation ?? undefined,
    accuracy: accuracy ?? undefined,
  };
}

export function emergencyAlert({ senderId, vehicleInfo }) {
  return { id: randomUUID(), senderId, vehicleInfo: vehicleInfo ?? null, ts: Date.now() };
}

export function error(code, message) {
  return { code, message, ts: Date.now() };
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}
