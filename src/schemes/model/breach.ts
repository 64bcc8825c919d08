/** What an attack may not bring about, and how a breach of it is reported. */

/** The invariants, each with the sentence that it stands for. */
export const INVARIANTS = {
  'kernel-integrity': "nothing writes dom0 kernel memory on a restricted process's behalf",
  'kernel-secrecy': "nothing reads dom0 kernel memory on a restricted process's behalf",
  'process-isolation': "no other process's memory is read or written",
  'domain-isolation': 'no other domain is read, written or changed',
  'hypervisor-secrecy': "nothing that lies in the hypervisor's own memory comes back, by data or by errno",
  restriction: 'what a file was restricted to stays so, and covers every call',
  bounded: 'what one call can make the kernel and the hypervisor spend has a bound',
  'kernel-free': "the kernel's own calls are not hindered",
  'no-crash': 'no input makes the kernel or the hypervisor fail an assertion',
  'state-machine': "the hypervisor's own state stays consistent",
} as const;

export type Invariant = keyof typeof INVARIANTS;

export interface Breach {
  readonly invariant: Invariant;
  readonly what: string;
}

/** A copy that reached memory which isn't the caller's. */
export interface Hit {
  readonly direction: 'read' | 'write';
  readonly owner: string;
  readonly label: string;
  readonly pfn: number;
  readonly address: bigint;
  readonly bytes: number;
}
