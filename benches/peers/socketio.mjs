// Socket.IO on Node, with its Redis adapter if REDIS_URL says where Redis is.

import { createServer } from 'node:http';

import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';

import { Near } from './near.mjs';
import { options, serving } from './options.mjs';
import {
  MESSAGE_BYTES_MAX, PING_MS, RADIUS_M, connected, emergencyAlert, error, peerLocation, wrongInAlert, wrongInLocation,
  wrongInRegister,
} from './protocol.mjs';

const { port } = options();
const http = createServer();
const io = new Server(http, {
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  httpCompression: false,
  maxHttpBufferSize: MESSAGE_BYTES_MAX,
  pingInterval: PING_MS,
});
// The request of each handshake would be kept as long as its connection.
io.engine.on('connection', (raw) => {
  raw.request = null;
});

const redisUrl = process.env.REDIS_URL;
if (redisUrl) {
  const publisher = new Redis(redisUrl);
  const subscriber = publisher.duplicate();
  for (const client of [publisher, subscriber]) client.on('error', ({ message }) => console.error(`redis: ${message}`));
  io.adapter(createAdapter(publisher, subscriber));
}

const near = new Near(RADIUS_M);
/** Vehicle id to vehicle: its socket's id, which is a room of its own, and its place. */
const vehicles = new Map();

// To exactly those who are near: the packet is encoded and framed once for all of them. `local`, because another host
// knows better who is near there.
function tellNear(vehicle, location) {
  const found = near.around(vehicle);
  if (found.length > 0) io.local.to(found.map(({ room }) => room)).emit('peer_location', location);
}

// Other hosts are told once per turn of the event loop, of all that came in it.
const moved = [];
function tellHosts(location) {
  if (moved.push(location) > 1) return;
  setImmediate(() => io.serverSideEmit('moved', moved.splice(0)));
}
io.on('moved', (locations) => {
  for (const location of locations) {
    tellNear({ lat: location.lat, lon: location.lon }, location);
  }
});

io.on('connection', (socket) => {
  let vehicle = null;
  const refuse = (code, message) => socket.emit('error', error(code, message));
  socket.emit('connected', connected());

  socket.on('register', (data) => {
    const wrong = wrongInRegister(data);
    if (wrong !== null) return refuse('invalid_register', wrong);
    const { vehicleId } = data;
    if (vehicle !== null && vehicle.vehicleId !== vehicleId) {
      return refuse('invalid_register', 'this connection is another vehicle');
    }
    const former = vehicles.get(vehicleId);
    if (former !== undefined && former !== vehicle) io.local.in(former.room).disconnectSockets(true);
    vehicle ??= { vehicleId, room: socket.id, lat: 0, lon: 0, cell: null, slot: 0 };
    vehicles.set(vehicleId, vehicle);
    socket.emit('registered', { vehicleId });
  });

  socket.on('location_update', (data) => {
    const wrong = wrongInLocation(data);
    if (wrong !== null) return refuse('invalid_location', wrong);
    if (vehicle === null) return refuse('not_registered', 'register first');
    if (data.vehicleId !== vehicle.vehicleId) return refuse('not_yours', 'vehicleId');
    near.move(vehicle, data.lat, data.lon);
    const location = peerLocation(data);
    tellNear(vehicle, location);
    if (redisUrl) tellHosts(location);
  });

  // Through the adapter: also to those of other hosts.
  socket.on('emergency_alert', (data) => {
    const wrong = wrongInAlert(data);
    if (wrong !== null) return refuse('validation_error', wrong);
    if (vehicle === null) return refuse('not_registered', 'register first');
    if (data.senderId !== vehicle.vehicleId) return refuse('not_yours', 'senderId');
    io.emit('emergency_alert', emergencyAlert(data));
  });

  socket.on('heartbeat', () => socket.emit('heartbeat_ack', { ts: Date.now() }));

  socket.on('disconnect', () => {
    if (vehicle === null) return;
    near.remove(vehicle);
    if (vehicles.get(vehicle.vehicleId) === vehicle) vehicles.delete(vehicle.vehicleId);
  });
});

http.listen({ host: '127.0.0.1', port, backlog: 4096 }, () =>
  serving(redisUrl ? 'socket.io + redis' : 'socket.io', http.address().port));
