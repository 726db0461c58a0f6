// Everybody at once: USERS people, each with one try, for UNITS units of one vehicle.
import { Counter } from 'k6/metrics';
import { audit, hold, number, thresholds, vehicles } from './lib/bespeak.js';

const USERS = number('USERS', 2000);
const UNITS = number('UNITS', 100);
const winners = new Counter('winners');

export const options = {
  scenarios: {
    sale: { executor: 'per-vu-iterations', vus: USERS, iterations: 1, maxDuration: '2m' },
  },
  thresholds: thresholds({
    // Sold out to the last unit, and not one more.
    winners: [`count==${Math.min(USERS, UNITS)}`],
    'http_req_duration{call:reserve}': [`p(99)<${number('P99_MS', 10000)}`],
  }),
};

export function setup() {
  return vehicles(1, UNITS);
}

export default function (ids) {
  if (hold(ids[0])) winners.add(1);
}

export function teardown(ids) {
  audit(ids);
}
