/** Field terms as branded numbers, so that a gfn is never passed where an event channel port is wanted. */
declare const brand: unique symbol;
type Branded<B extends string> = number & { readonly [brand]: B };

/** A domain id, 0 to 0x7fff. */
export type Domid = Branded<'Domid'>;
/** A guest frame number: guest-physical address >> 12. */
export type Gfn = Branded<'Gfn'>;
/** A machine frame number: a frame of the embedded host's memory. */
export type Mfn = Branded<'Mfn'>;
/** An event channel port, local to one domain. */
export type EventPort = Branded<'EventPort'>;

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
