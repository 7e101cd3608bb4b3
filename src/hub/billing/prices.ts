/** What uses cost. */
import type { Config } from '../../platform/config.ts';

/** The resources that the hub counts itself. */
export const RESOURCES = ['gpu_hours', 'compute_hours', 'api_calls'] as const;

export type Resource = (typeof RESOURCES)[number];

/** Settings that hold the prices, as decimal strings. */
export type PriceSettings = Pick<
  Config,
  'billing_price_gpu_hours' | 'billing_price_compute_hours' | 'billing_price_api_calls'
>;

/** The price of one of a resource, in USD, as a decimal string. */
export function priceOf(settings: PriceSettings, resource: Resource): string {
  return settings[`billing_price_${resource}`];
}
