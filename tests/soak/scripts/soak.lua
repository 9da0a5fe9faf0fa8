--model: context=60000 max_output=8000 input=3 output=15
-- The model of the soak: does what the last block of the conversation says. Results are summed up in a word.
return function(request)
    local answer = aside(request)
    if answer then return answer end
    local content = request.last.content
    local last = type(content) == "table" and content[#content] or { type = "text", text = content }
    if last.type ~= "text" then return "done" end
    local mark, what, n = last.text:match("^(%S+) (%a+) ?(%d*)")
    n = tonumber(n) or 1
    if what == "tool" then
        local tools = {}
        for i = 1, n do tools[i] = { name = "nothing", input = { mark = mark, i = i } } end
        return { text = "I try.", tools = tools }
    elseif what == "bash" then
        return { tools = { { name = "bash", input = { command = "echo " .. mark .. " >> /workspace/runs; sleep 0." .. n } } } }
    elseif what == "ask" then
        return { tools = { { name = "ask", input = { mark = mark } } } }
    elseif what == "slow" then
        return { text = string.rep(mark .. " ", 30), chunks = 10, delay_ms = 100 * n }
    elseif what == "big" then
        return { text = string.rep("A long answer says little. ", 1500), chunks = 30 }
    elseif what == "fail" then
        return { error = { kind = "overloaded", message = "told to fail", http_status = 529, retry_after_ms = 1 } }
    end
    return "ok " .. tostring(mark)
end
