/** What the trace calls a call, and which domain it says it is for. Only for people: nothing is decided by it. */
import {
  IOCTL_EVTCHN_BIND_INTERDOMAIN,
  IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  IOCTL_EVTCHN_BIND_VIRQ,
  IOCTL_EVTCHN_NOTIFY,
  IOCTL_EVTCHN_RESET,
  IOCTL_EVTCHN_RESTRICT_DOMID,
  IOCTL_EVTCHN_UNBIND,
} from '../abi/linux/evtchn.js';
import { IOCTL_GNTDEV_GRANT_COPY, IOCTL_GNTDEV_SET_MAX_GRANTS } from '../abi/linux/gntdev.js';
import {
  IOCTL_PRIVCMD_DM_OP,
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_MMAP,
  IOCTL_PRIVCMD_MMAP_RESOURCE,
  IOCTL_PRIVCMD_MMAPBATCH,
  IOCTL_PRIVCMD_MMAPBATCH_V2,
  IOCTL_PRIVCMD_RESTRICT,
  IOCTL_PRIVCMD_UNIMPLEMENTED,
  privcmd_mmap,
} from '../abi/linux/privcmd.js';

interface CallName {
  readonly name: string;
  /** Where the argument struct has the domid, in bytes; all are little-endian u16 or u32. */
  readonly domidAt?: number;
}

const DOM_AFTER_NUM = privcmd_mmap.fields.dom.offset;

const names = new Map<number, CallName>([
  [IOCTL_PRIVCMD_HYPERCALL, { name: 'HYPERCALL' }],
  [IOCTL_PRIVCMD_MMAP, { name: 'MMAP', domidAt: DOM_AFTER_NUM }],
  [IOCTL_PRIVCMD_MMAPBATCH, { name: 'MMAPBATCH', domidAt: DOM_AFTER_NUM }],
  [IOCTL_PRIVCMD_MMAPBATCH_V2, { name: 'MMAPBATCH_V2', domidAt: DOM_AFTER_NUM }],
  [IOCTL_PRIVCMD_DM_OP, { name: 'DM_OP', domidAt: 0 }],
  [IOCTL_PRIVCMD_RESTRICT, { name: 'RESTRICT', domidAt: 0 }],
  [IOCTL_PRIVCMD_MMAP_RESOURCE, { name: 'MMAP_RESOURCE', domidAt: 0 }],
  [IOCTL_PRIVCMD_UNIMPLEMENTED, { name: 'UNIMPLEMENTED' }],
  [IOCTL_EVTCHN_BIND_VIRQ, { name: 'BIND_VIRQ' }],
  [IOCTL_EVTCHN_BIND_INTERDOMAIN, { name: 'BIND_INTERDOMAIN', domidAt: 0 }],
  [IOCTL_EVTCHN_BIND_UNBOUND_PORT, { name: 'BIND_UNBOUND_PORT', domidAt: 0 }],
  [IOCTL_EVTCHN_UNBIND, { name: 'UNBIND' }],
  [IOCTL_EVTCHN_NOTIFY, { name: 'NOTIFY' }],
  [IOCTL_EVTCHN_RESET, { name: 'RESET' }],
  [IOCTL_EVTCHN_RESTRICT_DOMID, { name: 'RESTRICT_DOMID', domidAt: 0 }],
  [IOCTL_GNTDEV_SET_MAX_GRANTS, { name: 'SET_MAX_GRANTS' }],
  [IOCTL_GNTDEV_GRANT_COPY, { name: 'GRANT_COPY' }],
]);

export function callName(cmd: number): string {
  return names.get(cmd)?.name ?? 'unknown ioctl';
}

/** Where the call's argument struct has the domid, in bytes. */
export function callDomidAt(cmd: number): number | undefined {
  return names.get(cmd)?.domidAt;
}
