--model: context=100000 max_output=2000 input=0 output=100
-- Answers as long as it may: 2,000 tokens, which cost twenty cents, or fewer where a cap leaves fewer. What
-- ends with "call NAME" calls the custom tool of that name first, "wait" takes over a second.
return function(request)
    local most = request.max_tokens > 0 and request.max_tokens or 2000
    local usage = { input_tokens = 10, output_tokens = math.min(most, 2000) }
    local name = request.text:match("call (%w+)%s*$")
    if name and #request.results == 0 then
        return { tools = { { name = name, input = {} } }, usage = usage }
    end
    return { text = "spent", usage = usage, delay_ms = request.text:match("wait%s*$") and 1100 or 0 }
end
