return function()
    return { text = "no", refusal = { category = "cyber", explanation = "not this" } }
end
