-- Scores, the best K so far, and the heap of cells that may still hold better ones. Pure: no Redis call in here.
-- How scores are made for one request: the weights, and the price at which price_norm is 0.
local function new_scorer(request)
  local weights = C.strategies[request.strategy]
  return {
    cap = weights.cap, price = weights.price, price_top = request.max_price or request.price_ref,
    static = (weights.latency + weights.trust + weights.load) / (STEPS - 1),
    -- Reads a record down to the step of this strategy in one call.
    format = '<ddddd' .. string.rep('xx', request.strategy - 1) .. 'H',
  }
end

local function price_norm(scorer, price)
  local top = scorer.price_top
  if price < top then return 1 - price / top end
  return top <= 0 and price <= 0 and 1 or 0
end

local function score_of(scorer, fit, price, step)
  return scorer.cap * fit + scorer.price * price_norm(scorer, price) + scorer.static * step
end

-- The best K so far: score first, then the distance of the slot from the job's starting slot.
local function podium_offer(podium, entry)
  local at = podium.size + 1
  while at > 1 do
    local other = podium[at - 1]
    if other.score > entry.score or (other.score == entry.score and other.distance < entry.distance) then break end
    at = at - 1
  end
  if at > podium.k then return end
  table.insert(podium, at, entry)
  if podium.size == podium.k then podium[podium.k + 1] = nil else podium.size = podium.size + 1 end
  if podium.size == podium.k then podium.worst = podium[podium.k].score end
end

local function new_podium(k)
  return { size = 0, k = k, worst = k > 0 and -math.huge or math.huge }
end

-- Binary heap of cells, the highest bound on top.
local function heap_push(heap, cell)
  local at = #heap + 1
  heap[at] = cell
  while at > 1 do
    local parent = math.floor(at / 2)
    if heap[parent].bound >= cell.bound then break end
    heap[at], heap[parent] = heap[parent], cell
    at = parent
  end
end

local function heap_pop(heap)
  local top, last = heap[1], table.remove(heap)
  if #heap == 0 then return top end
  local at, size = 1, #heap
  while true do
    local child = at * 2
    if child > size then break end
    if child < size and heap[child + 1].bound > heap[child].bound then child = child + 1 end
    if heap[child].bound <= last.bound then break end
    heap[at] = heap[child]
    at = child
  end
  heap[at] = last
  return top
end
