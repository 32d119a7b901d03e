// A cold evening, a window, and the radiator that computes. No radiosity, photons or jitter: each pixel depends on
// the scene alone, so that tiles rendered on different machines fit together to the bit.
#version 3.7;
global_settings { assumed_gamma 1.0 max_trace_level 5 }

// Written in metres, rendered in millimetres: POV-Ray ignores shadows closer than a fixed thousandth of a unit, and
// there what it remembers of the pixel before decides. In a scene of small numbers that shows on edges.
#declare M = 1000;

#declare Cold = rgb <0.35, 0.50, 0.85>;
#declare Warm = rgb <1.00, 0.52, 0.20>;

camera {
  location <1.1, 1.55, -4.3>*M
  look_at <0.15, 1.05, 1.0>*M
  right x*image_width/image_height
  angle 58
}

// Light: the lamp on the sill, the evening outside, and a little from the room behind us.
light_source {
  <1.62, 1.95, 0.55>, Warm*1.1
  area_light <0.14, 0, 0>, <0, 0.14, 0>, 3, 3 adaptive 1 circular
  fade_distance 1.6*M fade_power 2
  scale M
}
light_source {
  <-3.5, 6.0, 9.0>, Cold*1.6
  area_light <1.4, 0, 0>, <0, 1.4, 0>, 4, 4 adaptive 0
  scale M
}
light_source { <2.5, 2.6, -4.5>, rgb <0.50, 0.44, 0.40>*0.55 fade_distance 6*M fade_power 2 scale M }

// Outside: dusk, hills, snow that falls.
sky_sphere {
  pigment {
    gradient y
    color_map { [0.0 rgb <0.75, 0.50, 0.45>] [0.12 rgb <0.35, 0.38, 0.62>] [0.5 rgb <0.05, 0.08, 0.22>] }
  }
}
height_field {
  function 128, 128 { 0.5 + 0.35*sin(x*9)*cos(y*7) + 0.15*sin(x*31 + y*17) }
  smooth
  translate <-0.5, 0, 0> scale <60, 3.4, 18> translate <0, -1.5, 8>
  texture { pigment { rgb <0.80, 0.84, 0.95> } finish { ambient 0.06 diffuse 0.75 } }
  scale M
}
#declare Chance = seed(41);
#declare Flake = 0;
#while (Flake < 400)
  sphere {
    <rand(Chance)*6 - 3.6, rand(Chance)*3 + 0.6, 1.4 + rand(Chance)*4>, 0.007 + 0.009*rand(Chance)
    pigment { rgb 1 } finish { ambient 0.45 diffuse 0.6 } no_shadow
    scale M
  }
  #declare Flake = Flake + 1;
#end

// The room.
#declare Plaster = texture {
  pigment { bozo scale 0.6 color_map { [0 rgb <0.80, 0.74, 0.66>] [1 rgb <0.86, 0.80, 0.72>] } }
  normal { granite 0.05 scale 0.12 }
  finish { ambient 0.04 diffuse 0.72 }
}
#declare Floor = texture {
  pigment {
    wood turbulence 0.06 octaves 4 scale <0.10, 0.10, 1> rotate x*3
    color_map { [0 rgb <0.42, 0.24, 0.12>] [0.6 rgb <0.30, 0.16, 0.07>] [1 rgb <0.20, 0.10, 0.04>] }
  }
  finish { ambient 0.03 diffuse 0.6 specular 0.35 roughness 0.02 reflection { 0.02, 0.22 fresnel off } }
}
#declare Painted = texture { pigment { rgb <0.88, 0.87, 0.84> } finish { ambient 0.04 diffuse 0.7 specular 0.25 } }

difference {
  box { <-3.3, -0.2, 1.0>, <3.3, 3.2, 1.28> }
  box { <-1.35, 1.17, 0.9>, <1.15, 2.55, 1.4> }
  texture { Plaster }
  scale M
}
box { <-3.22, -0.1, -6>, <-3.2, 3.15, 1.25> texture { Plaster } scale M }
box { <3.2, -0.1, -6>, <3.22, 3.15, 1.25> texture { Plaster } scale M }
box { <-3.21, 3.1, -6>, <3.21, 3.12, 1.2> texture { Painted } scale M }

#declare Board = 0;
#while (Board < 32)
  box {
    <-3.2 + Board*0.2, -0.03, -6>, <-3.2 + Board*0.2 + 0.194, 0, 1.05>
    texture { Floor translate <Board*1.7, Board*0.9, Board*3.1> }
    scale M
  }
  #declare Board = Board + 1;
#end
box { <-3.21, -0.01, 0.97>, <3.21, 0.11, 1.03> texture { Painted } scale M }

// The window: a frame, a sill, panes.
union {
  #declare Bar = 0;
  #while (Bar < 3)
    box { <-1.38 + Bar*1.22, 1.15, 1.10>, <-1.28 + Bar*1.22, 2.58, 1.17> }
    #declare Bar = Bar + 1;
  #end
  box { <-1.37, 1.16, 1.102>, <1.17, 1.25, 1.168> }
  box { <-1.37, 2.48, 1.102>, <1.17, 2.57, 1.168> }
  box { <-1.37, 2.02, 1.11>, <1.17, 2.06, 1.16> }
  box { <-1.50, 1.12, 0.82>, <1.85, 1.18, 1.14> }
  texture { Painted }
  scale M
}
box {
  <-1.36, 1.165, 1.13>, <1.16, 2.56, 1.135>
  pigment { rgbf <0.96, 0.98, 1, 0.97> }
  finish { ambient 0 diffuse 0.03 specular 0.6 roughness 0.005 reflection { 0.02, 0.35 } conserve_energy }
  interior { ior 1.5 } no_shadow
  scale M
}

// The heater: a column radiator whose fins glow where its processors are.
#declare Iron = texture {
  pigment { rgb <0.90, 0.89, 0.86> }
  normal { bumps 0.03 scale 0.02 }
  finish { ambient 0.03 diffuse 0.65 specular 0.5 roughness 0.03 reflection 0.03 }
}
#declare Column = merge {
  cylinder { <0, 0.20, 0>, <0, 0.86, 0>, 0.032 }
  sphere { <0, 0.20, 0>, 0.032 }
  sphere { <0, 0.86, 0>, 0.032 }
}
#declare Section = merge {
  object { Column translate z*-0.075 }
  object { Column }
  object { Column translate z*0.075 }
  superellipsoid { <0.6, 0.6> scale <0.036, 0.045, 0.11> translate y*0.19 }
  superellipsoid { <0.6, 0.6> scale <0.036, 0.045, 0.11> translate y*0.87 }
}
#declare Fin = 0;
#while (Fin < 18)
  #declare Glow = exp(-pow((Fin - 8.5)/5, 2));
  object {
    Section translate <-1.05 + Fin*0.094, 0, 0.72>
    texture { Iron }
    texture {
      pigment {
        gradient y
        color_map { [0.20 rgbt <1, 0.25, 0.05, 1>] [0.55 rgbt <1, 0.35, 0.08, 1 - 0.75*Glow>] [0.88 rgbt <1, 0.25, 0.05, 1>] }
      }
      finish { ambient Glow diffuse 0.2 }
    }
    scale M
  }
  #declare Fin = Fin + 1;
#end
union {
  cylinder { <-1.30, 0.19, 0.72>, <0.75, 0.19, 0.72>, 0.022 }
  cylinder { <-1.30, 0.87, 0.72>, <0.62, 0.87, 0.72>, 0.022 }
  cylinder { <-1.30, 0.0, 0.72>, <-1.30, 0.87, 0.72>, 0.018 }
  texture { pigment { rgb <0.70, 0.42, 0.24> } finish { ambient 0.03 diffuse 0.4 specular 0.8 roughness 0.02 metallic reflection { 0.25 metallic } } }
  scale M
}
light_source { <-0.25, 0.55, 0.35>, Warm*0.30 fade_distance 0.8*M fade_power 2 shadowless scale M }

// On the sill: a lamp, a cup, an apple. On the floor: a rug and a ball that shows the room.
union {
  cone { <1.62, 1.80, 0.93>, 0.16, <1.62, 2.05, 0.93>, 0.09 open
    pigment { rgbt <1.0, 0.80, 0.52, 0.25> } finish { ambient 0.9 diffuse 0.4 } no_shadow }
  cylinder { <1.62, 1.19, 0.93>, <1.62, 1.82, 0.93>, 0.014 texture { Iron } }
  cylinder { <1.62, 1.17, 0.93>, <1.62, 1.20, 0.93>, 0.08 texture { Iron } }
  scale M
}
difference {
  cylinder { <-0.95, 1.1802, 0.95>, <-0.95, 1.30, 0.95>, 0.055 }
  cylinder { <-0.95, 1.19, 0.95>, <-0.95, 1.31, 0.95>, 0.047 }
  pigment { rgb <0.12, 0.25, 0.45> } finish { ambient 0.03 diffuse 0.6 specular 0.7 roughness 0.01 reflection 0.06 }
  scale M
}
torus { 0.032, 0.009 rotate x*90 translate <-0.89, 1.24, 0.95>
  pigment { rgb <0.12, 0.25, 0.45> } finish { ambient 0.03 diffuse 0.6 specular 0.7 roughness 0.01 }
  scale M
}
lathe {
  cubic_spline 7, <0, -0.06>, <0, -0.045>, <0.045, -0.035>, <0.062, 0.01>, <0.03, 0.05>, <0, 0.035>, <0, 0.02>
  translate <0.78, 1.225, 0.93>
  pigment { gradient y scale 0.12 translate y*1.17 turbulence 0.4
    color_map { [0 rgb <0.55, 0.60, 0.12>] [0.6 rgb <0.70, 0.08, 0.06>] [1 rgb <0.55, 0.03, 0.04>] } }
  finish { ambient 0.03 diffuse 0.65 specular 0.5 roughness 0.02 }
  scale M
}
cylinder {
  <-0.1, 0.001, -1.1>, <-0.1, 0.016, -1.1>, 1.25
  pigment { radial frequency 12 color_map { [0 rgb <0.45, 0.10, 0.09>] [0.5 rgb <0.45, 0.10, 0.09>] [0.5 rgb <0.75, 0.62, 0.42>] [1 rgb <0.75, 0.62, 0.42>] } translate <-0.1, 0, -1.1> }
  normal { granite 0.25 scale 0.03 } finish { ambient 0.03 diffuse 0.65 }
  scale M
}
sphere {
  <0.75, 0.30, -0.75>, 0.28
  pigment { rgb <0.02, 0.025, 0.03> } finish { ambient 0 diffuse 0.1 specular 1 roughness 0.003 reflection { 0.55 } }
  scale M
}
sphere {
  <0.1, 0.16, -1.35>, 0.145
  pigment { rgbf <0.85, 0.95, 0.90, 0.92> }
  finish { ambient 0 diffuse 0.02 specular 1 roughness 0.002 reflection { 0.03, 0.8 fresnel } conserve_energy }
  interior { ior 1.45 fade_distance 0.3*M fade_power 1 fade_color rgb <0.3, 0.8, 0.6> }
  scale M
}
