-- Two tool calls in one answer, then a word.
return function(request)
    if #request.results > 0 then return "done: " .. #request.results end
    return {
        text = "two at once",
        tools = {
            { name = "bash", input = { command = "echo one" } },
            { name = "bash", input = { command = "echo two; exit 3" } },
        },
    }
end
