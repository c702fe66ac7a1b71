// What every request of a service goes through: it counts them, and does to them what the fault says. Beside it the port for tests.
'use strict';

const http = require('node:http');

// Passed on to the services that are called.
const FORWARDED = ['traceparent', 'tracestate', 'baggage', 'x-request-id'];
// What a call to another service may take.
const CALL_MS = 10_000;
// What requests get to end in, once no new ones are taken. With the drain it is below the pod's grace of 15 s.
const END_MS = 10_000;

const HEALTHY = { status: 0, share: 1, delay: 0, concurrency: Infinity };

class Gate {
  fault = HEALTHY;
  owed = 0; // of the next faulty answer: a share is kept exactly, not by chance
  working = 0;
  waiting = []; // oldest first
  counts = { served: 0, failed: 0, concurrent: 0, concurrent_max: 0 };
  last = {};
  ending = false;

  // Waits for a place and for the fault's delay. Gives back the status to answer instead of the work (0: none) and `leave`, to be
  // called once with whether the request was answered well; or nothing, if the caller left meanwhile.
  async enter(header, signal) {
    this.counts.concurrent += 1;
    this.counts.concurrent_max = Math.max(this.counts.concurrent_max, this.counts.concurrent);
    for (const name of FORWARDED) this.last[name] = header(name) ?? '';
    const { delay } = this.fault;
    if (this.working >= this.fault.concurrency) {
      if (!(await this.#turn(signal))) {
        this.#count(false);
        return undefined;
      }
    } else {
      this.working += 1;
    }
    if (delay > 0 && !(await pause(delay, signal))) {
      this.#leave(false);
      return undefined;
    }
    return { status: this.#verdict(), leave: (well) => this.#leave(well) };
  }

  set(fault) {
    this.fault = fault;
    this.owed = 0;
    this.#admit();
  }

  // Requests that are in the service stay counted as such.
  reset() {
    const { concurrent } = this.counts;
    this.counts = { served: 0, failed: 0, concurrent, concurrent_max: concurrent };
  }

  #turn(signal) {
    return new Promise((resolve) => {
      const left = () => {
        this.waiting.splice(this.waiting.indexOf(given), 1);
        resolve(false);
      };
      const given = () => {
        signal.removeEventListener('abort', left);
        resolve(true);
      };
      signal.addEventListener('abort', left, { once: true });
      this.waiting.push(given);
    });
  }

  #admit() {
    while (this.waiting.length > 0 && this.working < this.fault.concurrency) {
      this.working += 1;
      this.waiting.shift()();
    }
  }

  #verdict() {
    if (this.fault.status === 0) return 0;
    this.owed += this.fault.share;
    if (this.owed < 1) return 0;
    this.owed -= 1;
    return this.fault.status;
  }

  #leave(well) {
    this.working -= 1;
    this.#count(well);
    this.#admit();
  }

  #count(well) {
    this.counts.concurrent -= 1;
    this.counts[well ? 'served' : 'failed'] += 1;
  }
}

// Whether the time went by before the caller left.
function pause(length, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve(false);
    const left = () => {
      clearTimeout(timer);
      resolve(false);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', left);
      resolve(true);
    }, length);
    signal.addEventListener('abort', left, { once: true });
  });
}

function milliseconds(text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s)$/.exec(text) ?? [];
  if (unit === undefined) throw new Error(`\`${text}\` is no length of time such as 200ms`);
  return Number(number) * (unit === 's' ? 1000 : 1);
}

function parseFault(query) {
  const fault = { ...HEALTHY };
  for (const [name, text] of query) {
    if (name === 'status' && /^\d{3}$/.test(text) && Number(text) >= 200) fault.status = Number(text);
    else if (name === 'concurrency' && /^[1-9]\d{0,5}$/.test(text)) fault.concurrency = Number(text);
    else if (name === 'share' && text !== '' && Number(text) >= 0 && Number(text) <= 1) fault.share = Number(text);
    else if (name === 'delay') fault.delay = milliseconds(text);
    else throw new Error(`${name}=${text}: unknown, or out of range`);
  }
  return fault;
}

// The port for tests, which is there until the process ends. Called once the service takes calls, since it says that it is ready.
function serveSide(gate) {
  const pages = {
    '/ready': () => (gate.ending ? [503, 'ending\n'] : [200, 'ready\n']),
    '/counts': () => [200, JSON.stringify(gate.counts)],
    '/last': () => [200, JSON.stringify(gate.last)],
    '/fault': (query) => {
      try {
        gate.set(parseFault(query));
      } catch (error) {
        return [400, `${error.message}\n`];
      }
      return [200, 'set\n'];
    },
    '/reset': () => {
      gate.reset();
      return [200, 'reset\n'];
    },
  };
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, 'http://side');
    const page = pages[url.pathname];
    const [status, text] = page && request.method === 'GET' ? page(url.searchParams) : [404, 'not found\n'];
    response.writeHead(status, { 'content-type': text.startsWith('{') ? 'application/json' : 'text/plain' }).end(text);
  });
  server.listen(Number(process.env.SIDE_PORT ?? 9000));
}

// After SIGTERM a service goes on for a while, unready, so that no caller is told of it any more; then `end` ends it with what is
// in flight, and the process with it.
function endWhenTold(gate, end) {
  const told = async () => {
    gate.ending = true;
    await new Promise((resolve) => setTimeout(resolve, milliseconds(process.env.SHOP_DRAIN ?? '3s')));
    setTimeout(() => {
      console.error('requests did not end in time');
      process.exit(1);
    }, END_MS);
    await end();
    process.exit(0);
  };
  process.once('SIGTERM', told);
  process.once('SIGINT', told);
}

module.exports = { CALL_MS, FORWARDED, Gate, endWhenTold, serveSide };
