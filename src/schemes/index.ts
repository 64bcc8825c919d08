/** The proposals, the attacks, and what can be done with them. */
export type { Attack } from './attacks/attack.js';
export { ATTACKS, attack } from './attacks/index.js';
export { type AuditReport, audit, auditJson } from './audit.js';
export { documentParts, partOf, replacePart } from './document.js';
export { INVARIANTS } from './model/breach.js';
export { PLATFORMS } from './model/platform.js';
export { type Properties, propertiesOf } from './properties.js';
export type { Proposal } from './proposal.js';
export { BROKEN_FORMS, PROPOSALS, proposal } from './proposals/index.js';
export { runAttack } from './run-attack.js';
