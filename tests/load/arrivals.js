// RATE people per second want a vehicle, whatever the server answers: RATE 100, 500, 1000; VEHICLES 1 (a hot one) or 100.
import exec from 'k6/execution';
import { audit, hold, number, span, thresholds, vehicles } from './lib/bespeak.js';

const RATE = number('RATE', 100);
const VEHICLES = number('VEHICLES', 1);
const UNITS = number('UNITS', 1000000);

export const options = {
  scenarios: {
    arrivals: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: span('DURATION', '30s'),
      preAllocatedVUs: number('USERS', Math.max(50, Math.ceil(RATE / 2))),
      maxVUs: number('USERS_MAX', Math.max(200, RATE * 2)),
    },
  },
  thresholds: thresholds({
    // An arrival that finds no free user is never sent, and then the real rate is lower than RATE.
    dropped_iterations: [`count<=${number('DROPPED_MAX', RATE)}`],
  }),
};

export function setup() {
  return vehicles(VEHICLES, UNITS);
}

export default function (ids) {
  hold(ids[exec.scenario.iterationInTest % ids.length]);
}

export function teardown(ids) {
  audit(ids);
}
