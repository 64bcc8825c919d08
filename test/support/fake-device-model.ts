/**
 * A device model on the other side of an ioreq server's pages, in the same process: it binds the server's channels in
 * dom0, reads and writes the shared pages as plain memory, and can be told to misbehave.
 */
import { ioreq, STATE_IOREQ_INPROCESS, STATE_IORESP_READY } from '../../dist/abi/xen/ioreq.js';
import type { TestDomain } from './dm-op.js';

export interface SeenRequest {
  readonly addr: bigint;
  readonly data: bigint;
  readonly count: number;
  readonly size: number;
  readonly type: number;
  readonly state: number;
  readonly dir: number;
  readonly df: number;
  readonly dataIsPtr: number;
}

export class FakeDeviceModel {
  readonly id: number;
  private readonly ports: number[] = [];
  /** How often a vCPU's channel was notified. */
  readonly notified: number[] = [];
  bufferedNotified = 0;

  constructor(
    private readonly t: TestDomain,
    bufioreq = 0,
  ) {
    const { dom0 } = t.hypervisor;
    const { ioreq: servers } = t.hvm;
    this.id = servers.create(dom0, bufioreq);
    for (const frame of bufioreq ? [0n, 1n] : [1n]) servers.resourceFrames(dom0, this.id, frame, 1);
    servers.setState(dom0, this.id, true);
    for (let vcpu = 0; vcpu < t.domain.nrVcpus; vcpu++) {
      const local = dom0.evtchn.bindInterdomain(t.domain, this.slotPort(vcpu));
      this.ports[vcpu] = local;
      this.notified[vcpu] = 0;
      dom0.evtchn.clearPending(local); // binding makes one up
      dom0.evtchn.unmask(local);
    }
    const { bufioreqPort } = servers.info(dom0, this.id, false);
    const buffered = bufioreqPort === undefined ? -1 : dom0.evtchn.bindInterdomain(t.domain, bufioreqPort);
    if (buffered >= 0) {
      dom0.evtchn.clearPending(buffered);
      dom0.evtchn.unmask(buffered);
    }
    const before = dom0.evtchn.onUpcall;
    dom0.evtchn.onUpcall = (port) => {
      before?.(port);
      dom0.evtchn.clearPending(port);
      const vcpu = this.ports.indexOf(port);
      if (vcpu >= 0) this.notified[vcpu]!++;
      if (port === buffered) this.bufferedNotified++;
    };
  }

  claim(type: number, start: bigint, end: bigint): this {
    this.t.hvm.ioreq.mapRange(this.t.hypervisor.dom0, this.id, type, start, end);
    return this;
  }

  /** The synchronous page, as a process has it mapped. */
  get page(): DataView {
    return this.t.hvm.ioreq.get(this.id)!.ioreqPage!.view;
  }

  get ring(): DataView {
    return this.t.hvm.ioreq.get(this.id)!.bufioreqPage!.view;
  }

  slotPort(vcpu: number): number {
    return ioreq.fields.vp_eport.get(this.page, vcpu * ioreq.size);
  }

  setSlotPort(vcpu: number, port: number): void {
    ioreq.fields.vp_eport.set(this.page, vcpu * ioreq.size, port);
  }

  request(vcpu: number): SeenRequest {
    const { flags, addr, data, count, size, type } = ioreq.read(this.page, vcpu * ioreq.size);
    return {
      addr,
      data,
      count,
      size,
      type,
      state: flags.state,
      dir: flags.dir,
      df: flags.df,
      dataIsPtr: flags.data_is_ptr,
    };
  }

  setState(vcpu: number, state: number): void {
    const offset = vcpu * ioreq.size;
    const flags = ioreq.fields.flags.get(this.page, offset);
    ioreq.fields.flags.set(this.page, offset, { ...flags, state });
  }

  setData(vcpu: number, data: bigint): void {
    ioreq.fields.data.set(this.page, vcpu * ioreq.size, data);
  }

  notify(vcpu: number): void {
    this.t.hypervisor.dom0.evtchn.send(this.ports[vcpu]!);
  }

  /** Serves what a vCPU asks for, as a well-behaved device model does. */
  answer(vcpu: number, data: bigint): void {
    this.setState(vcpu, STATE_IOREQ_INPROCESS);
    this.setData(vcpu, data);
    this.setState(vcpu, STATE_IORESP_READY);
    this.notify(vcpu);
  }
}
