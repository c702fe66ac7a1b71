// The shop's book: shop.Ledger/Record by gRPC. It calls no one.
'use strict';

const os = require('node:os');

const grpc = require('@grpc/grpc-js');

const { Gate, endWhenTold, serveSide } = require('./gate');

// The messages of shop.proto are carried as JSON, so that no language of the shop needs generated code.
const toBytes = (message) => Buffer.from(JSON.stringify(message));
const fromBytes = (bytes) => JSON.parse(bytes.toString());
const service = {
  Record: {
    path: '/shop.Ledger/Record',
    requestStream: false,
    responseStream: false,
    requestSerialize: toBytes,
    requestDeserialize: fromBytes,
    responseSerialize: toBytes,
    responseDeserialize: fromBytes,
  },
};

const CODES = {
  429: grpc.status.RESOURCE_EXHAUSTED,
  500: grpc.status.INTERNAL,
  502: grpc.status.UNAVAILABLE,
  503: grpc.status.UNAVAILABLE,
  504: grpc.status.DEADLINE_EXCEEDED,
};

const gate = new Gate();
let entries = 0;

async function record(call, done) {
  const left = new AbortController();
  call.on('cancelled', () => left.abort());
  const header = (name) => call.metadata.get(name)[0];
  const visit = await gate.enter(header, left.signal);
  if (visit === undefined) return done({ code: grpc.status.CANCELLED, details: 'the caller left' });
  visit.leave(visit.status === 0);
  if (visit.status !== 0) return done({ code: CODES[visit.status] ?? grpc.status.UNKNOWN, details: 'told to fail' });
  entries += 1;
  return done(null, { service: 'ledger', pod: os.hostname(), entry: entries, traceparent: header('traceparent') });
}

const server = new grpc.Server();
server.addService(service, { Record: record });

function listen(hosts) {
  const [host, ...others] = hosts;
  server.bindAsync(`${host}:${process.env.PORT ?? 50051}`, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error === null) return serveSide(gate);
    // A machine without IPv6.
    if (others.length > 0) return listen(others);
    console.error(error.message);
    process.exit(1);
  });
}

listen(['[::]', '0.0.0.0']);
endWhenTold(gate, () => new Promise((resolve) => server.tryShutdown(resolve)));
