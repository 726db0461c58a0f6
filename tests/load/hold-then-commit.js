// All steps of a customer: hold, think, then commit or release. RATE customers per second over VEHICLES vehicles.
import exec from 'k6/execution';
import { sleep } from 'k6';
import { audit, commit, hold, number, release, span, thresholds, vehicles } from './lib/bespeak.js';

const RATE = number('RATE', 100);
const THINK_SECONDS = number('THINK_SECONDS', 1);
const COMMIT_SHARE = number('COMMIT_SHARE', 0.8);

export const options = {
  scenarios: {
    customers: {
      executor: 'constant-arrival-rate',
      rate: RATE,
      timeUnit: '1s',
      duration: span('DURATION', '30s'),
      preAllocatedVUs: number('USERS', Math.max(50, Math.ceil(RATE * (THINK_SECONDS + 0.5)))),
      maxVUs: number('USERS_MAX', Math.max(200, Math.ceil(RATE * (THINK_SECONDS + 2)))),
      gracefulStop: '60s',
    },
  },
  thresholds: thresholds({
    dropped_iterations: [`count<=${number('DROPPED_MAX', RATE)}`],
    'http_req_duration{call:commit}': [`p(99)<${number('P99_MS', 2000)}`],
  }),
};

export function setup() {
  return vehicles(number('VEHICLES', 100), number('UNITS', 100000));
}

export default function (ids) {
  const token = hold(ids[exec.scenario.iterationInTest % ids.length]);
  if (!token) return;
  sleep(THINK_SECONDS * (0.5 + Math.random()));
  if (Math.random() < COMMIT_SHARE) commit(token);
  else release(token);
}

export function teardown(ids) {
  audit(ids);
}
