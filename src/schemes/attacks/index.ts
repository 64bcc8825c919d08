/** All attacks. */
import { ADDRESS_ATTACKS } from './addresses.js';
import { ADVISORY_ATTACKS } from './advisories.js';
import type { Attack } from './attack.js';
import { COUNT_AND_SIZE_ATTACKS } from './counts-and-sizes.js';
import { DOMID_ATTACKS } from './domids.js';
import { LEAK_AND_EXHAUSTION_ATTACKS } from './leaks-and-exhaustion.js';
import { LIST_AND_BOUND_ATTACKS } from './lists-and-bounds.js';
import { NEW_OPERATION_ATTACKS } from './new-operations.js';
import { RACE_ATTACKS } from './races.js';
import { SHARED_PAGE_ATTACKS } from './shared-pages.js';
import { STALE_ATTACKS } from './stale-approvals.js';

export const ATTACKS: readonly Attack[] = [
  ...ADDRESS_ATTACKS,
  ...RACE_ATTACKS,
  ...STALE_ATTACKS,
  ...DOMID_ATTACKS,
  ...NEW_OPERATION_ATTACKS,
  ...COUNT_AND_SIZE_ATTACKS,
  ...LEAK_AND_EXHAUSTION_ATTACKS,
  ...ADVISORY_ATTACKS,
  ...SHARED_PAGE_ATTACKS,
  ...LIST_AND_BOUND_ATTACKS,
];

export function attack(id: string): Attack | undefined {
  return ATTACKS.find((one) => one.id === id);
}
