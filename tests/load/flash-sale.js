// A crowd at once: USERS people, with one attempt each, for UNITS units of one vehicle.
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
    // Every unit is sold, and not one more.
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
