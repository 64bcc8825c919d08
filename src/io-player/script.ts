/**
 * The I/O player's scripts as data. docs/io-player.md describes the language; parse.ts reads it, format.ts writes it,
 * run.ts plays it. This layer is pure: it reaches a guest only through the interface that run.ts is given.
 */

/** Bytes of one access. */
export type AccessSize = 1 | 2 | 4 | 8;

/** Where a statement starts, both from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** What a value read is compared with: `& mask == value within ms`. */
export interface Check {
  /** Bits that count; left out: all. */
  readonly mask?: bigint;
  readonly isEqual: boolean;
  readonly value: bigint;
  /** Read again until the comparison holds, for at most so long. */
  readonly withinMs?: number;
}

export interface ReadStatement {
  readonly kind: 'read';
  readonly space: 'port' | 'memory';
  readonly size: AccessSize;
  readonly address: bigint;
  readonly check?: Check;
  readonly at: Position;
}

export interface WriteStatement {
  readonly kind: 'write';
  readonly space: 'port' | 'memory';
  readonly size: AccessSize;
  readonly address: bigint;
  readonly value: bigint;
  readonly at: Position;
}

/** A PCI function on segment 0. */
export interface PciFunction {
  readonly bus: number;
  readonly device: number;
  readonly fn: number;
}

interface ConfigReadStatement {
  readonly kind: 'cfgread';
  readonly pci: PciFunction;
  readonly register: number;
  readonly size: 1 | 2 | 4;
  readonly check?: Check;
  readonly at: Position;
}

interface ConfigWriteStatement {
  readonly kind: 'cfgwrite';
  readonly pci: PciFunction;
  readonly register: number;
  readonly size: 1 | 2 | 4;
  readonly value: bigint;
  readonly at: Position;
}

/** Bytes written to one port, one after the other. */
interface OutStringStatement {
  readonly kind: 'outs';
  readonly port: bigint;
  readonly bytes: Uint8Array;
  readonly at: Position;
}

interface MemoryReadStatement {
  readonly kind: 'memread';
  readonly address: bigint;
  readonly length: number;
  /** What is expected there. */
  readonly expected?: Uint8Array;
  readonly at: Position;
}

interface MemoryWriteStatement {
  readonly kind: 'memwrite';
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly at: Position;
}

/** The level of one ISA interrupt line, 0 or 1. */
interface IrqStatement {
  readonly kind: 'irq';
  readonly irq: number;
  readonly check?: Check;
  readonly at: Position;
}

interface IrqsStatement {
  readonly kind: 'irqs';
  readonly at: Position;
}

interface SleepStatement {
  readonly kind: 'sleep';
  readonly ms: number;
  readonly at: Position;
}

interface PrintStatement {
  readonly kind: 'print';
  readonly text: string;
  readonly at: Position;
}

interface RepeatStatement {
  readonly kind: 'repeat';
  readonly count: number;
  readonly body: readonly Statement[];
  readonly at: Position;
}

export type Statement =
  | ReadStatement
  | WriteStatement
  | ConfigReadStatement
  | ConfigWriteStatement
  | OutStringStatement
  | MemoryReadStatement
  | MemoryWriteStatement
  | IrqStatement
  | IrqsStatement
  | SleepStatement
  | PrintStatement
  | RepeatStatement;

export type Script = readonly Statement[];

/** Bounds of the language. */
export const LIMITS = {
  statements: 100_000,
  nesting: 16,
  repeat: 1_000_000_000,
  sleepMs: 600_000,
  /** Bytes of one memread, memwrite or outs. */
  memory: 65_536,
} as const;

/** The commands that make one access: name to what it does. */
export const ACCESS_COMMANDS: Readonly<
  Record<string, { readonly space: 'port' | 'memory'; readonly isRead: boolean; readonly size: AccessSize }>
> = {
  inb: { space: 'port', isRead: true, size: 1 },
  inw: { space: 'port', isRead: true, size: 2 },
  inl: { space: 'port', isRead: true, size: 4 },
  outb: { space: 'port', isRead: false, size: 1 },
  outw: { space: 'port', isRead: false, size: 2 },
  outl: { space: 'port', isRead: false, size: 4 },
  readb: { space: 'memory', isRead: true, size: 1 },
  readw: { space: 'memory', isRead: true, size: 2 },
  readl: { space: 'memory', isRead: true, size: 4 },
  readq: { space: 'memory', isRead: true, size: 8 },
  writeb: { space: 'memory', isRead: false, size: 1 },
  writew: { space: 'memory', isRead: false, size: 2 },
  writel: { space: 'memory', isRead: false, size: 4 },
  writeq: { space: 'memory', isRead: false, size: 8 },
};

const SUFFIX: Record<AccessSize, string> = { 1: 'b', 2: 'w', 4: 'l', 8: 'q' };

/** `inb`, `writeq`, …: the command of a statement that makes one access. */
export function accessCommand(statement: ReadStatement | WriteStatement): string {
  const isRead = statement.kind === 'read';
  const stem = statement.space === 'port' ? (isRead ? 'in' : 'out') : isRead ? 'read' : 'write';
  return stem + SUFFIX[statement.size];
}

/** `00:02.0`. */
export function formatPciFunction({ bus, device, fn }: PciFunction): string {
  const hex = (n: number) => n.toString(16).padStart(2, '0');
  return `${hex(bus)}:${hex(device)}.${fn}`;
}

/** `0x3fd`. */
export function formatNumber(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
