/** What a restricted file of evtchn may still bind. Rows measured on a real Xen. */
import { beforeEach, expect, test } from 'vitest';
import { encode } from '../../../dist/abi/layout.js';
import * as E from '../../../dist/abi/linux/evtchn.js';
import { XenError } from '../../../dist/boundary/xen-error.js';
import { EvtchnFile } from '../../../dist/dom0/evtchn.js';
import type { Process } from '../../../dist/dom0/process.js';
import { type Result, TestMemory, Toolstack } from '../../support/toolstack.js';

let xen: Toolstack;
let domid: number;
let file: EvtchnFile;

beforeEach(() => {
  xen = new Toolstack();
  domid = xen.hvm();
  file = new EvtchnFile(xen.hypervisor.callsOfDom0().events, new Map(), () => {}, 16);
});

function ioctl(cmd: number, layout: Parameters<typeof encode>[0], value: object): Result {
  const memory = new TestMemory(64);
  const arg = Number(memory.put(encode(layout, value as never)));
  const copyIn = (address: number, into: Uint8Array) => memory.copyFrom(BigInt(address), into);
  try {
    return file.ioctl(cmd, arg, { memory: { copyIn } } as unknown as Process);
  } catch (error) {
    if (error instanceof XenError) return error.code;
    throw error;
  }
}

const bindUnbound = (remote_domain: number) =>
  ioctl(E.IOCTL_EVTCHN_BIND_UNBOUND_PORT, E.ioctl_evtchn_bind_unbound_port, { remote_domain });
const bindInterdomain = (remote_domain: number, remote_port: number) =>
  ioctl(E.IOCTL_EVTCHN_BIND_INTERDOMAIN, E.ioctl_evtchn_bind_interdomain, { remote_domain, remote_port });
const bindVirq = (virq: number) => ioctl(E.IOCTL_EVTCHN_BIND_VIRQ, E.ioctl_evtchn_bind_virq, { virq });

test('no port that waits, for whichever domain, and no virtual interrupt', () => {
  const port = xen.domain(domid).evtchn.allocUnbound(0);
  expect([bindUnbound(domid), bindVirq(0), bindVirq(4)]).toEqual([16, 'EEXIST', 17]);
  expect(ioctl(E.IOCTL_EVTCHN_RESTRICT_DOMID, E.ioctl_evtchn_restrict_domid, { domid })).toBe(0);
  expect([bindUnbound(domid), bindUnbound(0), bindVirq(5)]).toEqual(['EACCES', 'EACCES', 'EACCES']);
  expect([bindInterdomain(0, 1), bindInterdomain(domid, port)]).toEqual(['EACCES', 18]);
});
