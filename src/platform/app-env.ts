import type { HttpBindings } from '@hono/node-server';

export type Role = 'coordinator' | 'admin';

/**
 * Who called, as its secret proved. At the hub `id` is the start of the secret's digest, which tells secrets apart in logs and limits; at the
 * coordinator it names the client, miner or administrator.
 */
export interface Caller<R extends string = string> {
  readonly role: R;
  readonly id: string;
}

/** What a handler finds in its context. */
export interface AppEnv {
  /** Absent in process (`app.request`). */
  Bindings: Partial<HttpBindings>;
  Variables: {
    requestId: string;
    /** Address of the client, see client-address.ts. */
    address: string;
    /** Set by `permit`. */
    caller?: Caller;
  };
}
