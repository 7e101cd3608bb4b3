--[[ Queues a command for a miner and tells the replicas. Drain, resume and price caps take effect at once, however many commands wait, and replace
what waits of their kind.

KEYS[1]   shard prefix
ARGV[1]   clock      ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   name
ARGV[4]   args       JSON object
ARGV[5]   channel    control channel
ARGV[6]   price_cap  '' unless the command sets one: decimal string, or 'none' to lift it
ARGV[7]   token      of this call: the same call again queues nothing more

RETURNS {'ok', command id} | {'unknown_miner'} | {'full'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "price"
--- @include "once"

local clock, miner_id, name, args, channel, price_cap = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local token = ARGV[7]

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not miner then return { 'unknown_miner' } end
local given = earlier_answer(token)
if given then return { 'ok', given } end
local key = P .. 'commands:' .. miner_id

-- Commands that set something of the miner in the registry: of each kind, the last counts.
local KIND = { drain = 'draining', resume = 'draining', set_price_cap = 'price_cap' }

local function drop_waiting(kind)
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
    if KIND[entry[2][2]] == kind then redis.call('XDEL', key, entry[1]) end
  end
end

if KIND[name] then
  drop_waiting(KIND[name])
elseif redis.call('XLEN', key) >= C.max_commands then
  return { 'full' }
end

if name == 'drain' then miner.draining = 'admin' end
if name == 'resume' then miner.draining = 'no' end
if price_cap ~= '' then
  local pricing = load_pricing(miner_id)
  pricing.price_cap = price_cap == 'none' and '' or price_cap
  store_pricing(miner_id, pricing)
  apply_pricing(miner, pricing, now)
end
settle(miner, now)
local id = redis.call('XADD', key, '*', 'name', name, 'args', args)
remember_answer(token, id)
redis.call('PUBLISH', channel, cjson.encode({ type = 'command', miner_id = miner_id }))
return { 'ok', id }
