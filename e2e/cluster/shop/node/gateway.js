// The shop's front: HTTP/1 in, HTTP/1 to checkout and catalog.
'use strict';

const http = require('node:http');
const os = require('node:os');

const express = require('express');

const { CALL_MS, FORWARDED, Gate, endWhenTold, serveSide } = require('./gate');

const checkout = process.env.CHECKOUT_URL ?? 'http://checkout';
const catalog = process.env.CATALOG_URL ?? 'http://catalog';
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const gate = new Gate();

// Calls another service; gives its status and its JSON.
function ask(method, url, incoming, signal) {
  const headers = {};
  for (const name of FORWARDED) if (incoming.headers[name] !== undefined) headers[name] = incoming.headers[name];
  if (method === 'POST') headers['content-length'] = '0';
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent, signal });
    request.on('error', reject);
    request.on('response', (response) => {
      const parts = [];
      response.on('error', reject);
      response.on('data', (part) => parts.push(part));
      response.on('end', () => {
        const text = Buffer.concat(parts).toString();
        try {
          resolve({ status: response.statusCode, body: JSON.parse(text) });
        } catch {
          resolve({ status: response.statusCode, body: text });
        }
      });
    });
    request.end();
  });
}

// Puts the gate before the work, and answers with what the other service said.
function through(name, method, url) {
  return async (request, response) => {
    const left = new AbortController();
    response.on('close', () => left.abort());
    const visit = await gate.enter((header) => request.headers[header], left.signal);
    if (visit === undefined) return;
    // The caller's next request goes to another pod, on a new connection.
    if (gate.ending) response.set('connection', 'close');
    const own = { service: 'gateway', pod: os.hostname(), traceparent: request.headers.traceparent };
    let status = visit.status;
    if (status !== 0) {
      own.error = 'told to fail';
    } else {
      const late = AbortSignal.timeout(CALL_MS);
      try {
        const answer = await ask(method, url, request, AbortSignal.any([left.signal, late]));
        status = answer.status;
        own[name] = answer.body;
      } catch (error) {
        status = late.aborted ? 504 : 502;
        own.error = `${name}: ${error.message}`;
      }
    }
    visit.leave(status < 500 && !left.signal.aborted);
    if (!left.signal.aborted) response.status(status).json(own);
  };
}

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.get('/buy', through('checkout', 'POST', `${checkout}/checkout`));
app.get('/browse', through('catalog', 'GET', `${catalog}/items/7`));

const server = http.createServer({ keepAliveTimeout: 75_000 }, app);
server.listen(Number(process.env.PORT ?? 8080), () => serveSide(gate));
endWhenTold(gate, () => new Promise((resolve) => {
  server.close(resolve);
  server.closeIdleConnections();
}));
