// Code that all scripts share: the calls, the definition of a failure, and the ledger that detects overselling.
//
// The ledger is a counter. Each granted hold adds one; at the end, each vehicle subtracts the units that the server reports as
// taken (total - available, which is held + committed). A result other than 0 means that a unit was oversold, or that a unit is
// taken without a customer who got the answer. Over the API there is no other way to know: k6 users share only counters.
import http from 'k6/http';
import { check, fail } from 'k6';
import { Counter } from 'k6/metrics';

const BASE = (__ENV.BASE_URL || 'http://127.0.0.1:8080').replace(/\/+$/, '');

/** A number from the environment, or its default. */
export function number(name, otherwise) {
  const text = __ENV[name];
  if (text === undefined || text === '') return otherwise;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name}=${text} is not valid: must be a number`);
  return value;
}

/** A duration such as 30s from the environment, or its default. */
export function span(name, otherwise) {
  const text = __ENV[name] || otherwise;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) {
    throw new Error(`${name}=${text} is not valid: must be a number with ms, s, m or h, such as 30s`);
  }
  return text;
}

const TTL_SECONDS = number('TTL_SECONDS', 3600);

const ledger = new Counter('ledger');
const held = new Counter('units_held');
const refused = new Counter('sold_out');
const failed = new Counter('failed');
const serverErrors = new Counter('server_errors');
const broken = new Counter('broken_books');

// A sold-out refusal is not a failure.
http.setResponseCallback(http.expectedStatuses(200, 409));

/** The thresholds of every script; times are generous by default, and P99_MS sets them if a server must be faster. */
export function thresholds(more) {
  return Object.assign(
    {
      server_errors: ['count==0'],
      failed: ['count==0'],
      broken_books: ['count==0'],
      ledger: ['count==0'],
      'http_req_duration{call:reserve}': [`p(99)<${number('P99_MS', 2000)}`],
    },
    more,
  );
}

/** Creates vehicles that no other run uses; returns their ids. Called in setup(). */
export function vehicles(count, units) {
  const run = crypto.randomUUID();
  const ids = [];
  for (let n = 0; n < count; n += 1) {
    const id = `load-${run}-${n}`;
    const answer = post('define', '/api/v1/resources', { resourceId: id, totalStock: units }, run);
    if (answer.status !== 200) fail(`${BASE} refused to create ${id}: ${answer.status} ${answer.error || answer.body}`);
    ids.push(id);
  }
  return ids;
}

/** Holds one unit, under its own key; returns the token, or null. */
export function hold(vehicle) {
  const attempt = crypto.randomUUID();
  const body = { resourceId: vehicle, quantity: 1, ttlSeconds: TTL_SECONDS };
  const answer = post('reserve', '/api/v1/reserve', body, attempt, { 'Idempotency-Key': attempt });
  if (answer.status === 200) {
    const token = field(answer, 'token');
    if (check(answer, { 'a hold is HELD and has a token': () => token && field(answer, 'status') === 'HELD' })) {
      held.add(1);
      ledger.add(1);
      return token;
    }
    failed.add(1);
  } else if (answer.status === 409 && String(field(answer, 'type')).endsWith('out-of-stock')) {
    refused.add(1);
  } else {
    failed.add(1);
  }
  return null;
}

/** Makes a hold final. */
export function commit(token) {
  const answer = post('commit', '/api/v1/commit', { token }, crypto.randomUUID());
  const done = answer.status === 200 && field(answer, 'status') === 'COMMITTED';
  check(answer, { 'a commit is COMMITTED': () => done });
  if (!done) failed.add(1);
}

/** Releases a hold. */
export function release(token) {
  const answer = post('release', '/api/v1/release', { token }, crypto.randomUUID());
  const done = answer.status === 200 && field(answer, 'status') === 'RELEASED';
  check(answer, { 'a release is RELEASED': () => done });
  if (done) ledger.add(-1);
  else failed.add(1);
}

/** Closes the ledger: the units that the server reports as taken must be those that were granted. Called in teardown(). */
export function audit(ids) {
  for (const id of ids) {
    const answer = http.get(`${BASE}/api/v1/resources/${encodeURIComponent(id)}`, { tags: { call: 'audit' } });
    count(answer);
    const total = field(answer, 'totalStock');
    const available = field(answer, 'availableStock');
    const sound = answer.status === 200 && available >= 0 && available <= total;
    check(answer, { 'available is between 0 and the total': () => sound });
    if (sound) ledger.add(available - total);
    else broken.add(1);
  }
}

function post(call, path, body, id, headers) {
  const answer = http.post(`${BASE}${path}`, JSON.stringify(body), {
    headers: Object.assign({ 'Content-Type': 'application/json', 'X-Request-Id': id }, headers),
    tags: { call },
    timeout: span('TIMEOUT', '30s'),
  });
  count(answer);
  return answer;
}

/** A field of a JSON body; null if the body is not JSON (such as a proxy's error page). */
function field(answer, name) {
  try {
    return answer.json(name);
  } catch (_notJson) {
    return null;
  }
}

// No answer at all (status 0) also counts as a failure of the server.
function count(answer) {
  if (answer.status === 0 || answer.status >= 500) serverErrors.add(1);
}
