// People reserve at the same time, and each one again after each answer (closed loop); some release their hold.
import { audit, hold, number, release, span, thresholds, vehicles } from './lib/bespeak.js';

export const options = {
  scenarios: {
    concurrent: {
      executor: 'constant-vus',
      vus: number('USERS', 200),
      duration: span('DURATION', '30s'),
      gracefulStop: '60s',
    },
  },
  thresholds: thresholds(),
};

export function setup() {
  return vehicles(number('VEHICLES', 1), number('UNITS', 1000));
}

export default function (ids) {
  const token = hold(ids[Math.floor(Math.random() * ids.length)]);
  // Stock moves both ways, so that people compete for the last unit repeatedly.
  if (token && Math.random() < 0.5) release(token);
}

export function teardown(ids) {
  audit(ids);
}
