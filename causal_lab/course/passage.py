"""A text that is the same on every machine, for what is measured on the real model."""

PASSAGE = """\
A lighthouse is a simple machine with a difficult task. It has to say one thing, the same thing, \
to everyone who can see it, for as long as the night lasts. The first lighthouses were fires of \
wood on a hill. They smoked, they went out in the rain, and they ate a whole forest in a few \
winters. Coal burned longer, but it made so much smoke that the windows of the lamp room turned \
black before midnight, and somebody had to climb up and clean them.

The real problem was not the fire. Light goes in all directions, and almost all of it goes where \
there is no ship: up to the clouds, down to the rocks, back over the land. A mirror behind the \
flame sends some of it out to sea again. But a mirror of metal swallows half of the light that \
falls on it, and the salt in the air makes it dull.

In 1822 a French engineer, Augustin Fresnel, found a better way. A large lens would collect the \
light and send it out in one direction. Such a lens, however, would be so thick and so heavy \
that no tower could carry it, and the glass would swallow more than the mirrors did. Fresnel saw \
that the inside of a lens does nothing. Light is bent only where it enters the glass and where \
it leaves it. So he took the inside away. What was left were rings of glass, each with the slope \
of the old lens at that place, set in a frame of brass. The lens was now thin enough to carry \
and clear enough to trust. A lamp that could be seen for ten kilometres could now be seen for \
thirty.

The new light had a new problem. From the sea, one bright light looks like another. A captain \
who sees a light and thinks that it is a different light is worse off than a captain who sees no \
light at all. So the lenses were made to turn. A ship saw a flash, then darkness, then a flash \
again, and by counting the seconds between the flashes the captain could find the name of the \
lighthouse in a book. The lens, which weighed as much as three elephants, floated in a bath of \
mercury, so that a child could turn it with one finger. A clock with a weight on a chain kept it \
moving, and every few hours the keeper had to wind the clock.

Keepers lived a quiet life, and not always a healthy one. Mercury is a poison, and those who \
cleaned the bath year after year became confused, or angry, or saw things that were not there. \
People on the land said that it was the loneliness. It was the machine. Today almost all \
lighthouses work without a keeper. The lamp is small, the lens is made of plastic, and the light \
is watched by a computer in an office far from the sea. Ships find their way by satellites. Yet \
captains still look for the light when they come near the coast at night, because a satellite \
tells you where you are, and a lighthouse tells you where the rocks are.
"""
