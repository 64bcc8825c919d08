/** Who holds which line up, and what the controllers see of it. */
import { beforeEach, describe, expect, test } from 'vitest';
import { InterruptLines } from '../../../../dist/hypervisor/interrupts/interrupt-lines.js';
import type { InterruptSink, Msi } from '../../../../dist/hypervisor/interrupts/interrupt-sink.js';
import { verdictOf } from '../../../support/dm-op.js';

let seen: string[];
let accept: boolean;
let msis: Msi[];
let lines: InterruptLines;

const sink: InterruptSink = {
  gsiRaised: (gsi) => seen.push(`gsi ${gsi}`),
  picChanged: (irq, isHigh) => seen.push(`pic ${irq} ${isHigh ? 'up' : 'down'}`),
  deliverMsi: (msi) => {
    msis.push(msi);
    return accept;
  },
  eventPending: (vcpu) => seen.push(`event ${vcpu}`),
};

beforeEach(() => {
  seen = [];
  msis = [];
  accept = true;
  lines = new InterruptLines(sink);
});

function during(action: () => void): string[] {
  seen = [];
  action();
  return seen;
}

describe('ISA lines', () => {
  test('edges once', () => {
    expect(during(() => lines.setIsaIrq(4, true))).toEqual(['gsi 4', 'pic 4 up']);
    expect(during(() => lines.setIsaIrq(4, true))).toEqual([]);
    expect(during(() => lines.setIsaIrq(4, false))).toEqual(['pic 4 down']);
    expect(during(() => lines.setIsaIrq(4, false))).toEqual([]);
  });

  test('the timer is GSI 2, which it shares with line 2', () => {
    expect(during(() => lines.setIsaIrq(0, true))).toEqual(['gsi 2', 'pic 0 up']);
    expect(during(() => lines.setIsaIrq(2, true))).toEqual([]);
    expect(lines.gsiAssertCount(2)).toBe(2);
    expect(during(() => lines.setIsaIrq(0, false))).toEqual([]);
    expect(during(() => lines.setIsaIrq(2, false))).toEqual(['pic 2 down']);
  });
});

describe('PCI pins', () => {
  test.each([
    [0, 0, 16],
    [3, 0, 28],
    [7, 3, 47],
    [8, 0, 17],
    [31, 3, 18],
  ])('device %i pin %i is GSI %i', (device, pin, gsi) => {
    expect(during(() => lines.setPciIntx(device, pin, true))).toEqual([`gsi ${gsi}`]);
    expect(lines.isGsiHigh(gsi)).toBe(true);
    lines.setPciIntx(device, pin, false);
    expect(lines.isGsiHigh(gsi)).toBe(false);
  });

  test('a link leads to its ISA line, once, and is shared', () => {
    lines.setPciLinkRoute(0, 11);
    expect(during(() => lines.setPciIntx(0, 0, true))).toEqual(['gsi 16', 'gsi 11', 'pic 11 up']);
    expect(during(() => lines.setPciIntx(4, 0, true))).toEqual(['gsi 32']);
    expect(during(() => lines.setPciIntx(0, 0, false))).toEqual([]);
    expect(during(() => lines.setPciIntx(4, 0, false))).toEqual(['pic 11 down']);
  });

  test('an ISA line that is held up otherwise stays up', () => {
    lines.setPciLinkRoute(1, 5);
    lines.setIsaIrq(5, true);
    expect(during(() => lines.setPciIntx(0, 1, true))).toEqual(['gsi 17']);
    expect(during(() => lines.setIsaIrq(5, false))).toEqual([]);
    expect(during(() => lines.setPciIntx(0, 1, false))).toEqual(['pic 5 down']);
  });

  test('routing a link that is up takes its level along', () => {
    lines.setPciIntx(0, 2, true);
    expect(during(() => lines.setPciLinkRoute(2, 9))).toEqual(['gsi 9', 'pic 9 up']);
    expect(during(() => lines.setPciLinkRoute(2, 9))).toEqual([]);
    expect(during(() => lines.setPciLinkRoute(2, 10))).toEqual(['pic 9 down', 'gsi 10', 'pic 10 up']);
    expect(during(() => lines.setPciLinkRoute(2, 0))).toEqual(['pic 10 down']);
    expect(lines.linkRoute(2)).toBe(0);
    lines.setPciIntx(0, 2, false);
    for (let gsi = 0; gsi < 48; gsi++) expect(lines.gsiAssertCount(gsi)).toBe(0);
  });

  test('all pins up and down again leave every count at 0', () => {
    for (let link = 0; link < 4; link++) lines.setPciLinkRoute(link, 5 + link);
    for (const isHigh of [true, false]) {
      for (let device = 0; device < 32; device++)
        for (let pin = 0; pin < 4; pin++) lines.setPciIntx(device, pin, isHigh);
      const counts = Array.from({ length: 48 }, (_, gsi) => lines.gsiAssertCount(gsi));
      expect(counts.reduce((a, b) => a + b)).toBe(isHigh ? 132 : 0);
    }
  });
});

describe('MSIs', () => {
  test('are decoded', () => {
    lines.injectMsi(0xfee63004n, 0x8141);
    expect(msis).toEqual([{ vector: 0x41, delivery: 'lowest-priority', dest: 0x63, isLogical: true, isLevel: true }]);
    lines.injectMsi(0xfee00000n, 0xffff0030);
    expect(verdictOf(() => lines.injectMsi(0xfee00000n, 0xff30))).toBe('EINVAL');
    expect(msis[1]).toEqual({ vector: 0x30, delivery: 'fixed', dest: 0, isLogical: false, isLevel: false });
  });

  test('that nobody takes: only lowest priority tells', () => {
    accept = false;
    expect(verdictOf(() => lines.injectMsi(0xfee00000n, 0x41))).toBe('OK');
    expect(verdictOf(() => lines.injectMsi(0xfee00000n, 0x141))).toBe('ESRCH');
  });
});

test('events tell the vCPU', () => {
  const event = { vector: 14, type: 3, insnLen: 0, errorCode: 2, cr2: 0n };
  expect(during(() => lines.injectEvent(1, event))).toEqual(['event 1']);
});

test('line numbers are checked by callers; a wrong one is a bug', () => {
  for (const wrong of [
    () => lines.setIsaIrq(16, true),
    () => lines.setPciIntx(32, 0, true),
    () => lines.setPciIntx(0, 4, true),
    () => lines.setPciLinkRoute(4, 0),
    () => lines.setPciLinkRoute(0, 16),
  ]) {
    expect(wrong).toThrow(/interrupt line/);
  }
});
