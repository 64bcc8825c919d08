/** The quota names of GET_QUOTA and SET_QUOTA: `nodes`, …, and `soft-memory` for a warning level. */
import { type Limits, QUOTAS, type QuotaName, SOFT_QUOTAS, type SoftLimits, type SoftQuotaName } from '../quotas.js';

const SOFT_PREFIX = 'soft-';

export function allQuotaNames(): string[] {
  return [...Object.keys(QUOTAS), ...Object.keys(SOFT_QUOTAS).map((name) => `${SOFT_PREFIX}${name}`)];
}

export function isQuotaName(name: string): boolean {
  return allQuotaNames().includes(name);
}

export function getLimit(name: string, limits: Limits, soft: SoftLimits): number {
  return name.startsWith(SOFT_PREFIX)
    ? soft[name.slice(SOFT_PREFIX.length) as SoftQuotaName]
    : limits[name as QuotaName];
}

export function setLimit(name: string, limits: Limits, soft: SoftLimits, value: number): void {
  if (name.startsWith(SOFT_PREFIX)) soft[name.slice(SOFT_PREFIX.length) as SoftQuotaName] = value;
  else limits[name as QuotaName] = value;
}
